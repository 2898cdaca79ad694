"""Why a stage will run: what became of it before, and in what it differs from the nearest one that is finished."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from benchmark.artifacts.store import Spec, Store
from benchmark.plan import Plan
from vesselgan.errors import InputError

__all__ = ["reasons"]

Facts = Mapping[str, object]  # all that a key depends on, by names for people
MOST_COMPARED = 300  # finished stages of a kind, the latest ones
MOST_TOLD = 4  # differences in a line


def reasons(plan: Plan, store: Store, keys: Iterable[str]) -> dict[str, str]:
    """Key -> why it will run, for those of the plan's stages that are not done, in the plan's order."""
    wanted = set(keys)
    finished: dict[str, list[tuple[str, Facts]]] = {}
    told = {}
    for key, spec in plan.specs.items():
        if key in wanted and not store.done(key):
            if spec.stage not in finished:
                finished[spec.stage] = list(_finished(store, spec.stage))
            told[key] = _before(store, key) or _difference(spec, finished[spec.stage], store)
    return told


def _before(store: Store, key: str) -> str | None:
    """What an earlier attempt left; None where there was none."""
    folder = store.folder(key)
    if error := store.error(key):
        return f"failed before: {error['message'].splitlines()[0] if error['message'] else 'without a message'}"
    if (folder / "result.json").is_file():
        try:
            store.sound_result(key)
        except InputError as problem:
            return str(problem).partition(";")[0]
        return f"{folder}: was done, but a file of it is gone"
    if any(folder.glob("checkpoint*.pt")):
        return "was stopped, and goes on from its checkpoint"
    return "was stopped before it was done" if (folder / "log.txt").is_file() else None


def _difference(spec: Spec, finished: list[tuple[str, Facts]], store: Store) -> str:
    own = _facts(spec)
    differing = [(_differing(own, other), key) for key, other in finished]
    if not differing:
        return f"no {spec.stage} is finished here"
    names, nearest = min(differing, key=lambda each: (len(each[0]), each[1]))
    other = dict(finished)[nearest]
    lines = [_told(name, own.get(name), other.get(name), store) for name in names[:MOST_TOLD]]
    more = f" and {len(names) - MOST_TOLD} more" if len(names) > MOST_TOLD else ""
    return f"differs from {nearest} in {', '.join(lines)}{more}"


def _told(name: str, now: object, there: object, store: Store) -> str:
    if name.startswith("input "):
        state = "" if now is None or store.done(str(now)) else ", to be made first"
        return f"{name} ({now}{state}; there {there})"
    values = ["nothing" if value is None else _short(value) for value in (now, there)]
    return f"{name} ({values[0]}; there {values[1]})"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _differing(own: Facts, other: Facts) -> list[str]:
    return [name for name in dict.fromkeys((*own, *other)) if own.get(name) != other.get(name)]


def _finished(store: Store, stage: str) -> Iterator[tuple[str, Facts]]:
    """The latest ones, with what their keys were made of."""
    results = [path for path in store.stages.glob(f"{stage}-*/result.json") if _is_of(path, stage)]
    for path in sorted(results, key=lambda path: path.stat().st_mtime, reverse=True)[:MOST_COMPARED]:
        try:
            yield path.parent.name, _facts(store.spec(path.parent.name))
        except InputError:
            continue  # of a damaged one nothing is known


def _is_of(path: Path, stage: str) -> bool:
    return path.parent.name.rpartition("-")[0] == stage


def _facts(spec: Spec) -> Facts:
    """Every single thing that the key depends on, by a name for people."""
    facts: dict[str, object] = {"version of the stage": spec.version}
    facts |= dict(_flat("option ", spec.options)) | dict(_flat("", spec.runtime))
    return facts | {f"input {role}": key for role, key in spec.inputs.items()}


def _flat(prefix: str, values: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}.", value)
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value
