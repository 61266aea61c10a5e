"""The only code of the prompts package that uses a network: git, the hub, plain downloads."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Progress = Callable[[int, int], None]  # bytes done, bytes expected (0 where unknown)


class OfflineError(RuntimeError):
    """The network is switched off; the message has the command and the manual route."""


class FetchError(RuntimeError):
    """A download that failed or brought something else than was asked for."""


def require_online(environment: Mapping[str, str], instead: str) -> None:
    """Refuses to go on where IDBENCH_OFFLINE or HF_HUB_OFFLINE is set.

    Raises:
        OfflineError: With `instead`, what the user can do.
    """
    for name in ("IDBENCH_OFFLINE", "HF_HUB_OFFLINE"):
        if environment.get(name, "").lower() not in ("", "0", "false", "no", "off"):
            raise OfflineError(f"{name} is set, so no network call is made; {instead}")


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
) -> str:
    """Downloads one file: to `*.part`, hashed while streaming, renamed when it is right.

    Returns the sha256.

    Raises:
        FetchError: If the server refuses, the transfer breaks off or the content is another one.
    """
    if not url.startswith(("https://", "http://", "file://")):
        raise FetchError(f"not an address to download from: {url!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    digest, done = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=60) as answer, part.open("wb") as output:
            expected = int(answer.headers.get("Content-Length") or size or 0)
            while chunk := answer.read(1 << 20):
                done += len(chunk)
                if size is not None and done > size:
                    raise FetchError(f"{url} is larger than the {size} bytes that were expected")
                output.write(chunk)
                digest.update(chunk)
                if progress:
                    progress(done, expected)
        if expected and done != expected:
            raise FetchError(f"{url} broke off after {done} of {expected} bytes")
        if size is not None and done != size:
            raise FetchError(f"{url} has {done} bytes, expected {size}")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise FetchError(f"{url} has sha256 {digest.hexdigest()}, expected {sha256}")
        part.replace(target)
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise FetchError(f"cannot download {url}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest()


def sparse_checkout(url: str, revision: str, paths: Sequence[str], target: Path) -> None:
    """Puts the files below `paths` of one commit of a repository into `target`.

    Only the blobs of these paths are transferred where the server allows it. `target` appears
    whole, without the repository's own data.

    Raises:
        FetchError: If git is absent or fails, with its message.
        FileExistsError: If `target` exists.
    """
    if target.exists():
        raise FileExistsError(f"{target} exists already")
    if url.startswith("-") or revision.startswith("-"):
        raise FetchError(f"not a repository address or revision: {url!r} {revision!r}")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    clone = staging / "clone"
    try:
        _git("clone", "--quiet", "--no-checkout", "--filter=blob:none", "--", url, str(clone))
        _git("-C", str(clone), "sparse-checkout", "set", "--no-cone", *(f"/{p}/" for p in paths))
        _git("-C", str(clone), "checkout", "--quiet", "--detach", revision)
        head = _git("-C", str(clone), "rev-parse", "HEAD").strip()
        if len(revision) == 40 and head != revision:
            raise FetchError(f"{url}: checked out {head} instead of {revision}")
        shutil.rmtree(clone / ".git")
        clone.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


# The repository is somebody else's: no hooks, no filters or fetches by external programs, no
# links (they become small text files), no questions.
_SAFE_GIT = (
    "-c", "core.hooksPath=/dev/null", "-c", "core.symlinks=false", "-c", "core.autocrlf=false",
    "-c", "protocol.ext.allow=never", "-c", "filter.lfs.smudge=", "-c", "filter.lfs.required=false",
    "-c", "core.precomposeUnicode=true", "-c", "advice.detachedHead=false",
)  # fmt: skip


def _git(*arguments: str) -> str:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1"}
    try:
        done = subprocess.run(
            ["git", *_SAFE_GIT, *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError:
        raise FetchError("git is not installed; install it or use the manual route") from None
    if done.returncode:
        raise FetchError(f"git {arguments[0]} failed: {done.stderr.strip()[-1000:]}")
    return done.stdout


def hub_commit(repository: str, revision: str, *, endpoint: str | None = None) -> str:
    """The commit that a revision of a dataset on the hub, such as a branch, stands for now.

    Raises:
        FetchError: If huggingface_hub is not installed, or with its message.
    """
    library = _hub_library()
    try:
        found = library.HfApi(endpoint=endpoint).dataset_info(repository, revision=revision)
    except Exception as error:  # the hub's errors share no base class
        raise FetchError(f"cannot reach {repository} on the hub: {error}") from error
    return str(found.sha or revision)


def _hub_library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise FetchError(
            "huggingface_hub is not installed; pip install huggingface_hub, or use the manual route"
        ) from None
    return huggingface_hub


def hub_files(
    repository: str,
    revision: str,
    patterns: Sequence[str],
    target: Path,
    *,
    endpoint: str | None = None,
) -> list[Path]:
    """Downloads the files of a dataset on the Hugging Face hub that match `patterns`.

    Raises:
        FetchError: If huggingface_hub is not installed, or with its message.
    """
    huggingface_hub = _hub_library()
    target.mkdir(parents=True, exist_ok=True)
    found: list[Path] = []
    try:
        names: Sequence[str] = patterns
        if any(set("*?[") & set(pattern) for pattern in patterns):
            names = _matching(repository, revision, patterns, endpoint)
        for name in names:
            path = huggingface_hub.hf_hub_download(
                repository,
                name,
                repo_type="dataset",
                revision=revision,
                local_dir=target,
                endpoint=endpoint,
            )
            found.append(Path(path))
    except FetchError:
        raise
    except Exception as error:  # the hub's errors share no base class
        raise FetchError(f"cannot fetch {repository} from the hub: {error}") from error
    return found


def _matching(
    repository: str, revision: str, patterns: Sequence[str], endpoint: str | None
) -> list[str]:
    import fnmatch

    import huggingface_hub

    names = huggingface_hub.HfApi(endpoint=endpoint).list_repo_files(
        repository, repo_type="dataset", revision=revision
    )
    chosen = sorted(
        name for name in names if any(fnmatch.fnmatch(name, "*" + p.lstrip("*")) for p in patterns)
    )
    if not chosen:
        raise FetchError(f"{repository} has no file like {', '.join(patterns)}")
    return chosen
