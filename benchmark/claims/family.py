"""All claims of a protocol together: which can be decided, and Holm's correction for how many they are."""

from collections.abc import Mapping, Sequence

from benchmark.claims.comparisons import Assessment, Comparison, comparisons_of
from benchmark.claims.evidence import Evidence, MissingDataError
from benchmark.claims.statistics import holm
from benchmark.protocol.claim import Claim
from benchmark.results.judgements import Verdict
from benchmark.results.run_folder import PublishedValue
from vesselgan.metrics.estimates import CONFIDENCE

__all__ = ["LEVEL", "Family"]

LEVEL = round(1 - CONFIDENCE, 10)


def _find(
    claim: Claim, evidence: Evidence, reference: Mapping[str, PublishedValue], not_comparable: str | None
) -> tuple[Assessment | None, str | None]:
    """What the rows say, and why it decides nothing, if so."""
    try:
        assessment = Assessment.of(comparisons_of(claim, evidence, reference))
    except MissingDataError as error:
        return None, str(error)
    if claim.kind == "compatible" and not_comparable is not None:
        return assessment, not_comparable
    return assessment, assessment.obstacle


class Family:
    """What was found about each claim, with the correction of those that could be decided for their number."""

    def __init__(
        self,
        claims: Sequence[Claim],
        evidence: Evidence,
        reference: Mapping[str, PublishedValue],
        not_comparable: str | None = None,
    ) -> None:
        self.found = [_find(claim, evidence, reference, not_comparable) for claim in claims]
        self.members = {
            index: assessment
            for index, (assessment, obstacle) in enumerate(self.found)
            if assessment is not None and obstacle is None and not assessment.is_exact
        }
        self.p = {index: assessment.p for index, assessment in self.members.items()}
        self.corrected = self._holm(self.p)
        waiting = sum(assessment is not None and assessment.obstacle is not None for assessment, _ in self.found)
        undecided = waiting + sum(p > LEVEL for p in self.corrected.values())
        self.next_level = LEVEL / max(1, undecided)  # at which a claim that is still open would be tested

    def _holm(self, p: Mapping[int, float]) -> dict[int, float]:
        return dict(zip(p, holm(list(p.values())).tolist(), strict=True)) if p else {}

    def split(self, index: int) -> Comparison | None:
        """Where the trained models of a claim disagree that would be decided otherwise."""
        assessment = self.members.get(index)
        return assessment.split if assessment is not None and self.corrected[index] <= LEVEL else None

    def verdict(self, index: int, instead: Assessment | None = None) -> Verdict:
        """The verdict, with `instead` in place of what was found."""
        assessment, obstacle = self.found[index]
        assessment = instead or assessment
        if assessment is None or obstacle is not None:
            return "inconclusive"
        if assessment.is_exact:
            return assessment.leaning
        corrected = self.corrected if instead is None else self._holm(self.p | {index: instead.p})
        return assessment.leaning if corrected[index] <= LEVEL and not assessment.split else "inconclusive"
