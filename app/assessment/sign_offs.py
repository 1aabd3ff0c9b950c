"""Who did what to what: prepared, critiqued, recommended, decided, approved, was told."""

from app.assessment.assessment import SourceDocument
from app.vocabulary import AVerb, Document, Instant, ModelRef, Sentence, Slug, Verb


class SignOff(Document):
    """A named role did something about an action on a model version, at a time, with a reason."""

    model: ModelRef
    policy: Slug
    action: Slug
    role: Slug
    verb: AVerb
    given_at: Instant | None = None
    """Defaults to the server's time, which is then recorded here."""
    reason: Sentence
    sources: tuple[SourceDocument, ...] = ()

    @property
    def may_count_against(self) -> bool:
        """Whether it could stand in the way of an action."""
        return self.verb in (Verb.REVERSED, Verb.REASSESS)
