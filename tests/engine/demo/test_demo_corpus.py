"""The corpus of the bundled model: the same for a seed, consistent, and all of its own making."""

import ast
import itertools
from pathlib import Path

import pytest

from engine.demo import corpus as corpus_module
from engine.demo import corpus_facts as facts
from engine.demo.corpus import Conversation, Message, conversation, conversations
from engine.demo.corpus_draw import KEPT_BACK_AT, KEPT_BACK_EVERY, Draw
from engine.demo.corpus_mesh import TERMS
from engine.demo.corpus_outside import DECLINE, EVERYDAY, NEAR_MISSES, fill, outside_message
from engine.demo.corpus_turns import MAKERS, TASKS, Chat
from engine.demo.evaluate_questions import INSIDE, OUTSIDE, UNSEEN


def first(seed: int, count: int) -> list[Conversation]:
    return list(itertools.islice(conversations(seed), count))


def test_a_seed_gives_the_same_conversations_and_another_seed_others() -> None:
    assert first(3, 50) == first(3, 50)
    assert first(3, 50) != first(4, 50)


def test_conversations_alternate_and_end_with_an_answer() -> None:
    for made in first(11, 400):
        roles = [message.role for message in made.messages if message.role != "system"]
        assert roles == ["user", "assistant"] * len(made.tasks)
        assert all(message.role != "system" for message in made.messages[1:])
        assert all(message.content for message in made.messages)


def test_every_task_is_drawn_and_has_a_maker() -> None:
    assert {task for task, _ in TASKS} == set(MAKERS)
    drawn = {task for made in first(5, 1500) for task in made.tasks}
    assert drawn == set(MAKERS)


def test_no_template_leaves_a_gap_open() -> None:
    draw = Draw(1)
    assert [template for template in EVERYDAY + NEAR_MISSES if "{" in fill(draw, template)] == []


def test_training_never_draws_what_is_kept_back() -> None:
    items = tuple(range(64))
    trained, kept = Draw(1), Draw(1, kept_back=True)
    back = set(items[KEPT_BACK_AT::KEPT_BACK_EVERY])
    assert {kept.split_of(items) for _ in range(500)} == back
    assert {trained.split_of(items) for _ in range(4000)} == set(items) - back


def test_terms_and_facts_are_told_apart() -> None:
    names = [name.lower() for entry in TERMS for name in (entry[0], *entry[1])]
    assert len(names) == len(set(names)), "two terms share a name"
    assert len({entry[2] for entry in TERMS}) == len(TERMS)
    words = [word for pair in facts.OPPOSITES for word in pair]
    assert len(words) == len(set(words)), "a word with two opposites cannot be learnt"


@pytest.mark.parametrize(
    ("told", "asked"),
    [("Anna", "Your name is Anna."), (None, "You have not told me your name yet.")],
)
def test_the_name_is_remembered(told: str | None, asked: str) -> None:
    chat = Chat(Draw(2), name=told)
    for task in ("capital", "story", "outside"):
        chat.take(task)
    assert chat.take("ask_name")[1] == asked


def test_sums_are_right_or_refused() -> None:
    chat = Chat(Draw(8))
    seen = set()
    for _ in range(600):
        answer = chat.take("arithmetic")[1]
        if answer.startswith("That is too big"):
            seen.add("too big")
            continue
        left, right = answer.rstrip(".").replace("x", "*").split(" = ")
        sign = left.split()[1]
        a, b = (int(part) for part in left.split(f" {sign} "))
        assert int(right) == {"+": a + b, "-": a - b, "*": a * b}[sign]
        seen.add(sign)
    assert seen == {"+", "-", "*", "too big"}


def test_hand_written_questions_do_not_occur_in_training() -> None:
    draw = Draw(21)
    drawn = {outside_message(draw) for _ in range(60_000)}
    assert not drawn & set(OUTSIDE + UNSEEN)
    assert all(part and question for question, part in INSIDE)


def test_outside_messages_are_declined_with_one_firm_beginning() -> None:
    for seed in range(40):
        made = conversation(Draw(seed), only="outside")
        assert made.messages[-1].content.startswith(DECLINE)
        assert isinstance(made.messages[-1], Message)


def test_the_text_is_generated_from_this_folder_alone() -> None:
    """Provenance: no corpus module opens a file or a connection, or imports anything that does."""
    folder = Path(corpus_module.__file__).parent
    for path in sorted(folder.glob("corpus*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                assert not (isinstance(node, ast.Name) and node.id == "open"), path.name
                continue
            allowed = (
                "engine.demo",
                "__future__",
                "random",
                "collections",
                "dataclasses",
                "typing",
            )
            assert all(name.startswith(allowed) for name in names), (path.name, names)
