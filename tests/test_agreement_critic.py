"""What the panel and the critic say of a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.agreement import Agreement
from filters.critic import Critic
from filters.gate import Subject
from leafmill.records import Row, Vote

ROW = Row(language="en", instruction="Write a poem", answer="The sea")


def panel(*scores):
    votes = tuple(Vote(role=f"r{i}", score=score, failed="" if score else "unreadable_reply") for i, score in enumerate(scores))
    return Subject("s", ROW, votes=votes)


@pytest.mark.parametrize(
    ("scores", "decision", "code"),
    [
        ((4, 4, 5), "accept", "ok"),
        ((3, 5), "accept", "ok"),
        ((1, 4, 5), "reject", "agreement.disagree"),
        ((2, 2, 3), "reject", "agreement.low"),
        ((5,), "unscorable", "agreement.too_few_votes"),
        ((5, None, None), "unscorable", "agreement.too_few_votes"),
        ((), "unscorable", "agreement.too_few_votes"),
    ],
)
async def test_a_panel_is_judged_by_its_size_its_spread_and_its_median(scores, decision, code):
    verdict = await Agreement()(panel(*scores))
    assert (verdict.decision, verdict.code) == (decision, code)


async def test_T25_a_failed_vote_is_never_a_number():
    verdict = await Agreement()(panel(4, None, 2))
    assert verdict.value == 3
    assert verdict.evidence == {"votes": {"r0": 4, "r1": "unreadable_reply", "r2": 2}, "deviation": 1.0}


@given(st.lists(st.integers(1, 5), min_size=2, max_size=6).flatmap(lambda s: st.tuples(st.just(s), st.permutations(s))))
async def test_the_order_of_votes_does_not_matter(both):
    one, other = [(await Agreement()(panel(*scores))).code for scores in both]
    assert one == other


@pytest.mark.parametrize(("score", "decision"), [(5, "accept"), (3, "accept"), (2, "reject"), (None, "unscorable")])
async def test_the_critic_decides_by_its_score_and_a_missing_one_is_unscorable(score, decision):
    assert (await Critic()(Subject("s", ROW, critic_score=score))).decision == decision
