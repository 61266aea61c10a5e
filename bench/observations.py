"""What metrics look at: the inputs of a sample by role, and what the networks found there."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from idbench.extraction import Graph, Input, Losses, text_input
from idbench.features import FeatureStore
from idbench.masks import masks_in
from idbench.metrics.protocol import Features, Missing, Observation, Role, Subject
from idbench.prompts.cases import Case, File
from idbench.prompts.sources import resolve
from idbench.prompts.suites import Suite
from idbench.records import Sample
from idbench.store import RunStore

Inputs = Mapping[Role, Sequence[Input]]


class Observer:
    """Reads the samples of one run for metrics with these needs.

    `roles` has, per role that a metric needs, the extractors to run over its inputs. `base_key`
    identifies the run of the model without identity, None where there is none.
    """

    def __init__(
        self,
        store: RunStore,
        suite: Suite,
        needs: Sequence[Mapping[Role, tuple[str, ...]]],
        graph: Graph,
        data_root: Path,
        base: RunStore | None,
    ) -> None:
        """Reads nothing yet but the list of the base run's images."""
        self.graph = graph
        self._directory, self._suite, self._data_root = store.directory, suite, data_root
        self.base_key = base.identity.key if base else None
        self._base_directory = base.directory if base else None
        self._base = {(s.case_id, s.sample): s for s in base.samples("ok")} if base else {}
        self.roles: dict[Role, list[str]] = {}
        reads = {extractor.reads for extractor in graph.extractors.values()}
        self._masks = masks_in(data_root) if "image_mask" in reads else {}
        for need in needs:
            for role, names in need.items():
                self.roles[role] = graph.closure([*self.roles.get(role, []), *names])

    def inputs(self, sample: Sample) -> Inputs:
        """What the observation of a sample reads.

        Raises:
            FileNotFoundError: If a file of the suite is gone.
        """
        case = self._suite.case(sample.case_id)
        return {role: self._of_role(role, case, sample) for role in self.roles}

    def _of_role(self, role: Role, case: Case, sample: Sample) -> list[Input]:
        edit = case.edit
        match role:
            case "generated":
                return self._image(self._directory, sample, case)
            case "base":
                other = self._base.get((sample.case_id, sample.sample))
                return self._image(self._base_directory, other, case)
            case "reference":
                return [
                    Input(
                        reference.sha256,
                        resolve(reference, reference.source, self._data_root),
                        case.prompt,
                        reference.class_word or case.segment_query,
                        self._masks.get(reference.sha256),
                    )
                    for reference in case.references
                ]
            case "ground_truth":
                source = case.references[0].source if case.references else ""
                return self._file(case.ground_truth, source, case)
            case "original":
                return self._file(edit.original, edit.source, case) if edit else []
            case "edited":
                return self._file(edit.edited, edit.source, case) if edit else []
            case "prompt":
                return [text_input(case.prompt)]
            case "element":
                return [text_input(element.text) for element in edit.elements] if edit else []

    def _file(self, file: File | None, source: str, case: Case) -> list[Input]:
        if file is None:
            return []
        path = resolve(file, source, self._data_root)
        return [self._input(file.sha256, path, case)]

    def _image(self, directory: Path | None, sample: Sample | None, case: Case) -> list[Input]:
        if directory is None or sample is None or sample.path is None or sample.sha256 is None:
            return []
        return [self._input(sample.sha256, directory / sample.path, case)]

    def _input(self, sha256: str, path: Path, case: Case) -> Input:
        return Input(sha256, path, case.prompt, _subject(case), self._masks.get(sha256))

    def observations(
        self, samples: Sequence[Sample], features: FeatureStore, losses: Losses
    ) -> dict[tuple[str, int], Observation]:
        """The observations of samples that have an image, by case id and sample."""
        reads = {(s.case_id, s.sample): self.inputs(s) for s in samples}
        keys: dict[str, set[str]] = defaultdict(set)
        for read in reads.values():
            for role, inputs in read.items():
                for name in self.roles[role]:
                    keys[name] |= {self.graph.key(name, entry) for entry in inputs}
        found = {
            name: {**losses.get(name, {}), **features.get(wanted, self.graph.fingerprints[name])}
            for name, wanted in keys.items()
        }
        return {place: self._observation(place[0], read, found) for place, read in reads.items()}

    def _observation(
        self, case_id: str, read: Inputs, found: Mapping[str, Mapping[str, Features | Missing]]
    ) -> Observation:
        case = self._suite.case(case_id)
        unknown = Missing("error", "the extractor gave nothing; run again with --retry-failed")
        return Observation(
            prompt=case.prompt,
            features={
                role: tuple(
                    {
                        name: found[name].get(self.graph.key(name, entry), unknown)
                        for name in self.roles[role]
                    }
                    for entry in inputs
                )
                for role, inputs in read.items()
            },
            subjects=tuple(
                Subject(
                    person=person.person,
                    expression=person.expression,
                    orientation=person.orientation,
                    box=person.box,
                )
                for person in case.people
            ),
        )


def _subject(case: Case) -> str | None:
    """The word for what the images of a case show, if it has one."""
    words = [reference.class_word for reference in case.references if reference.class_word]
    return case.segment_query or next(iter(words), None)
