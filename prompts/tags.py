"""What results can be split by: the tags of a case and what else is known of it."""

from idbench.prompts.cases import Case


def case_tags(case: Case) -> dict[str, tuple[str, ...]]:
    """Tags of a case, with its category, difficulty, expressions and the like beside them.

    A tag of the case goes before what follows from its fields. Only names with a value are kept;
    names and values are sorted as they were given, names by alphabet.
    """
    edit = case.edit
    derived = {
        "category": (case.category,),
        "class_word": tuple(reference.class_word for reference in case.references),
        "combination": (case.combination,),
        "corruption": (edit.corruption if edit else None,),
        "difficulty": (case.difficulty,),
        "editor": (edit.editor if edit else None,),
        "expression": tuple(person.expression for person in case.people),
        "gender": tuple(reference.gender for reference in case.references),
        "kind": (case.kind,),
        "orientation": tuple(person.orientation for person in case.people),
        "pose_axis": (case.pose_axis,),
        "prompt": (case.prompt_id,),
        "scenario": edit.scenario if edit else (),
        "subject": (case.subject,),
    }
    merged: dict[str, tuple[str, ...]] = {}
    for name in sorted({*derived, *case.tags}):
        given = case.tags.get(name) or tuple(v for v in derived.get(name, ()) if v)
        if given:
            merged[name] = tuple(dict.fromkeys(given))
    return merged
