"""DreamBench++'s judge: a vision-language model that scores what a person would look at.

Peng et al. (arXiv 2406.16855) ask a model how much of the concept of a reference an image keeps,
and how well it follows its prompt, each from 0 to 4. The instructions here are this project's own.
Any endpoint that speaks OpenAI's chat completions will do; nothing is asked unless a caller names
one.
"""

import base64
import hashlib
import io
import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from idbench.metrics.protocol import MetricInfo, Missing

Question = Literal["concept_preservation", "prompt_following"]
Pixels = NDArray[np.uint8]

HIGHEST = 4
SIDE = 512


def judged(model: str) -> tuple[MetricInfo, MetricInfo, MetricInfo]:
    """What a judge measures: concept preservation, prompt following, and their product."""

    def info(
        name: str, summary: str, unit: str, axis: Literal["preservation", "text"]
    ) -> MetricInfo:
        return MetricInfo(
            name=name,
            protocol="strict",
            backend=model.replace("[", "(").replace("]", ")"),
            summary=f"{summary}, by a vision-language model",
            unit=unit,
            higher_is_better=True,
            bounds=(0.0, 1.0),
            axis=axis,
            papers=("DreamBench++",),
            comparable_to_published=False,
        )

    return (
        info("dreambench_cp", "how well the subject is kept", "score / 4", "preservation"),
        info("dreambench_pf", "how well the prompt is followed", "score / 4", "text"),
        info("dreambench_cp_pf", "both, multiplied", "product of scores / 4", "preservation"),
    )


_SCORE = re.compile(r"(score|Score):\s*[a-zA-Z]*\s*(\d+)")

_SCALE = (
    "Give a whole number from 0 to 4: 0 nothing of it is there; 1 a little; 2 about half; 3 most "
    "of it, with small faults; 4 all of it. First describe in a few sentences what you compare "
    "and what you see, then end with one line of exactly this form and nothing after it:\n"
    "Score: N"
)
INSTRUCTIONS: Mapping[Question, str] = {
    "concept_preservation": (
        "You compare two pictures. The first shows a subject; the second was made by a program "
        "that was told to show the same subject in another scene. Judge only how well the second "
        "keeps the subject: its shape and proportions, its colours, its textures and markings, "
        "and, for a person or an animal, the features by which one would recognise this "
        "individual. Ignore the scene, the pose, the style and the quality of the picture. If the "
        f"subject is absent, the answer is 0. {_SCALE}"
    ),
    "prompt_following": (
        "You are shown a description and a picture that a program made for it. Judge only how "
        "well the picture shows what the description says: the things it names, what they do, how "
        "they stand to one another, the place, the light and the style. Ignore how beautiful the "
        f"picture is and whether it is plausible. {_SCALE}"
    ),
}
_ANSWER = "I have understood the task and the form of the answer."


class JudgeError(ConnectionError):
    """The endpoint cannot be reached, or answers with an error that does not pass."""


def scores_in(text: str) -> list[int]:
    """All scores in an answer, as DreamBench++ reads them.

    "Score: 4/4" is 4; "**Score**: 4" is none, because the colon must follow the word.
    """
    return [int(number) for _, number in _SCORE.findall(text)]


def score_of(text: str) -> int | Missing:
    """The one score of an answer, in 0 to 4; or why there is none."""
    scores = scores_in(text)
    if len(scores) != 1:
        return Missing("unparsable_answer", f"{len(scores)} scores in: {text[-300:]!r}")
    if not 0 <= scores[0] <= HIGHEST:
        return Missing("score_out_of_range", f"{scores[0]} is not in 0 to {HIGHEST}")
    return scores[0]


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeSettings:
    """Everything an answer depends on besides the pictures and the prompt.

    `passes` answers are averaged, each with its own seed, `seed`, `seed + 1` and so on.
    """

    endpoint: str
    model: str
    temperature: float = 1.0
    passes: int = 3
    seed: int = 0

    def fingerprint(self) -> dict[str, object]:
        """What goes into the fingerprint of a column; where the model is reached does not."""
        return {
            "model": self.model,
            "temperature": self.temperature,
            "passes": self.passes,
            "seed": self.seed,
            "instructions": hashlib.sha256("".join(INSTRUCTIONS.values()).encode()).hexdigest(),
        }


class Judge:
    """Asks a model, and remembers every answer.

    Args:
        settings: Model and sampling.
        cache: Folder of answers, one file each; an answer that is there is not asked for again.
        api_key: Sent as a bearer token if given; it is stored nowhere.
        retries: How often a failed request is repeated.
        wait: Seconds before the first repetition, doubled each time.
        timeout: Seconds without an answer after which a request has failed.
        sleep: Waits some seconds; `time.sleep` by default.
    """

    def __init__(
        self,
        settings: JudgeSettings,
        cache: Path,
        *,
        api_key: str | None = None,
        retries: int = 3,
        wait: float = 2.0,
        timeout: float = 120.0,
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Keeps the arguments; nothing is asked."""
        self.settings = settings
        self._cache, self._api_key = cache, api_key
        self._retries, self._wait, self._timeout = retries, wait, timeout
        self._sleep = sleep or time.sleep

    def concept_preservation(self, reference: Pixels, generated: Pixels) -> float | Missing:
        """How much of the reference's subject is kept, in [0, 1]."""
        return self._mean(
            "concept_preservation",
            [_picture(reference), _picture(generated)],
            [reference, generated],
            "",
        )

    def prompt_following(self, prompt: str, generated: Pixels) -> float | Missing:
        """How well the image follows its prompt, in [0, 1]."""
        return self._mean(
            "prompt_following",
            [{"type": "text", "text": f"Description: {prompt}"}, _picture(generated)],
            [generated],
            prompt,
        )

    def _mean(
        self, question: Question, content: list[Any], pictures: Sequence[Pixels], prompt: str
    ) -> float | Missing:
        found = []
        for number in range(self.settings.passes):
            seed = self.settings.seed + number
            answer = self._answer(question, content, _key(pictures, prompt), seed)
            if isinstance(answer, Missing):
                return answer
            score = score_of(answer)
            if isinstance(score, Missing):
                return score
            found.append(score)
        return float(np.mean(found)) / HIGHEST

    def _answer(
        self, question: Question, content: list[Any], inputs: str, seed: int
    ) -> str | Missing:
        identity = {**self.settings.fingerprint(), "question": question, "inputs": inputs}
        name = hashlib.sha256(
            json.dumps(identity | {"seed": seed}, sort_keys=True).encode()
        ).hexdigest()
        path = self._cache / name[:2] / f"{name}.json"
        if path.is_file():
            message = json.loads(path.read_text("utf-8"))["message"]
        else:
            message = self._ask(question, content, seed)
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            asked = time.strftime("%Y-%m-%d", time.gmtime())
            record = {"model": self.settings.model, "date": asked, "message": message}
            part.write_text(json.dumps(record, indent=1), "utf-8")
            part.replace(path)
        if message.get("refusal"):
            return Missing("refused", str(message["refusal"])[:300])
        text = message.get("content")
        return text if text else Missing("refused", "the answer is empty")

    def _ask(self, question: Question, content: list[Any], seed: int) -> Mapping[str, Any]:
        body = {
            "model": self.settings.model,
            "temperature": self.settings.temperature,
            "seed": seed,
            "messages": [
                {"role": "user", "content": INSTRUCTIONS[question]},
                {"role": "assistant", "content": _ANSWER},
                {"role": "user", "content": content},
            ],
        }
        headers = {"Content-Type": "application/json"}
        if self._api_key:
            headers["Authorization"] = f"Bearer {self._api_key}"
        request = urllib.request.Request(
            f"{self.settings.endpoint.rstrip('/')}/chat/completions",
            json.dumps(body).encode(),
            headers,
        )
        for attempt in range(self._retries + 1):
            try:
                with urllib.request.urlopen(request, timeout=self._timeout) as answer:
                    message = json.load(answer)["choices"][0]["message"]
                return dict(message)
            except urllib.error.HTTPError as error:
                passing = error.code == 429 or error.code >= 500
                fault = f"{error.code} {error.read()[:300].decode(errors='replace')}"
                if not passing:
                    raise JudgeError(f"{request.full_url} answers {fault}") from None
            except (OSError, HTTPException, ValueError, KeyError, IndexError) as error:
                fault = f"{type(error).__name__}: {error}"
            if attempt < self._retries:
                self._sleep(self._wait * 2**attempt)
        raise JudgeError(f"{request.full_url} failed {self._retries + 1} times; last: {fault}")


def _picture(image: Pixels) -> dict[str, Any]:
    resized = Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    resized.save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/png;base64,{data}", "detail": "high"},
    }


def _key(pictures: Sequence[Pixels], prompt: str) -> str:
    digest = hashlib.sha256(prompt.encode())
    for picture in pictures:
        digest.update(repr(picture.shape).encode())
        digest.update(np.ascontiguousarray(picture).tobytes())
    return digest.hexdigest()
