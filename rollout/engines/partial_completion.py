"""A completion while it is sampled, over as many versions of the weights as come meanwhile."""

from rollout.engines.interface import Stretch
from rollout.records import Completion


class PartialCompletion:
    """Tokens so far, and the version of the weights of each."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.logprobs: list[float] = []
        self.spans: list[tuple[int, int]] = []
        self.finish_reason: str | None = None
        """``stop`` or ``length``; None while an update of the weights has stopped it."""
        self._cached_tokens: int | None = None

    def extend(self, stretch: Stretch, version: int) -> None:
        """Appends what one request sampled under ``version``."""
        self.logprobs += stretch.logprobs
        self.token_ids += stretch.token_ids
        if stretch.token_ids:
            self.spans.append((version, len(stretch.token_ids)))
        self.finish_reason = stretch.end
        if self._cached_tokens is None:
            self._cached_tokens = stretch.cached_tokens

    def completion(self, text: str) -> Completion:
        """The finished record."""
        assert self.finish_reason is not None and self.spans
        return Completion(
            text=text,
            token_ids=tuple(self.token_ids),
            logprobs=tuple(self.logprobs),
            weights_version=min(version for version, _ in self.spans),
            finish_reason=self.finish_reason,
            spans=tuple(self.spans),
            cached_prompt_tokens=self._cached_tokens or 0,
        )
