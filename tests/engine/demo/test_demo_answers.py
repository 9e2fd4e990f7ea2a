"""What the bundled model says, greedily, through the project's own engine."""

from collections.abc import Sequence

import pytest
import torch
from tokenizers import Tokenizer

from engine.config import EngineConfig, ModelConfig
from engine.core import EngineCore
from engine.demo import CHECKPOINT
from engine.demo.corpus import Conversation, Message
from engine.demo.corpus_outside import DECLINE
from engine.demo.evaluate_questions import UNSEEN
from engine.demo.train import Encoder
from engine.request import EngineRequest, SamplingParams

Chat = Sequence[Message]
LIMIT = 110


class Answers:
    """Answers many chats in one batch of the engine."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.tokenizer = Tokenizer.from_file(str(CHECKPOINT / "tokenizer.json"))
        self.encoder = Encoder(self.tokenizer)
        model = ModelConfig.from_dir(CHECKPOINT)
        self.core = EngineCore(EngineConfig(model=model, dtype="float32", max_step_seconds=None))

    def __call__(self, chats: Sequence[Chat]) -> list[str]:
        for at, chat in enumerate(chats):
            ids, _ = self.encoder.chat(Conversation(list(chat)))
            prompt = [*ids, *self.encoder.roles["assistant"]]
            sampling = SamplingParams(temperature=0.0, max_tokens=LIMIT)
            self.core.add(
                EngineRequest(
                    request_id=str(at), prompt_token_ids=prompt, sampling=sampling, arrival=0.0
                )
            )
        said: list[list[int]] = [[] for _ in chats]
        while self.core.has_work():
            for output in self.core.step(0.0):
                said[int(output.request_id)] += output.token_ids
        return [self.tokenizer.decode(ids) for ids in said]


@pytest.fixture(scope="module")
def answers() -> Answers:
    return Answers()


def users(*texts: str) -> list[Chat]:
    return [[Message("user", text)] for text in texts]


FIXED: tuple[tuple[str, str], ...] = (
    ("Hello!", "Hello! What would you like to know?"),
    ("Who are you?", "I am the tiny demo model that comes with Warmpath."),
    ("What is Warmpath?", "Warmpath is a load balancer and router for LLMs."),
    ("What can you do?", "I know a few things: "),
    ("What is a KV cache?", "The KV cache keeps the attention keys and values"),
    ("What is prefix caching?", "Prefix caching keeps the KV blocks"),
    ("Explain paged attention.", "Paged attention stores the KV cache in small blocks"),
    ("What is outlier ejection?", "Outlier ejection takes an endpoint out"),
    ("Define TTFT.", "TTFT is the time to first token"),
    ("What is a retry budget?", "A retry budget allows retries"),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("What is the capital of Japan?", "The capital of Japan is Tokyo."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("What colour is grass?", "Grass is green."),
    ("What sound does a cow make?", "A cow goes moo."),
    ("Tell me a story about a fox.", "Once upon a time there was a"),
    ("Thank you!", "You are welcome!"),
    ("What is my name?", "You have not told me your name yet."),
    ("What is a trombone?", DECLINE),
    ("Who painted the ceiling of the chapel?", DECLINE),
    ("How do I bake a cheesecake?", DECLINE),
    ("SELECT * FROM planets", DECLINE),
)


def test_fixed_questions(answers: Answers) -> None:
    got = answers(users(*(question for question, _ in FIXED)))
    wrong = [
        f"{question!r} -> {answer!r}"
        for (question, wanted), answer in zip(FIXED, got, strict=True)
        if not answer.startswith(wanted)
    ]
    assert not wrong


def test_questions_outside_of_its_world_are_mostly_declined(answers: Answers) -> None:
    got = answers(users(*UNSEEN))
    declined = sum(answer.startswith(DECLINE) for answer in got)
    assert declined >= 0.8 * len(UNSEEN), [a for a in got if not a.startswith(DECLINE)]


TALK: tuple[tuple[tuple[str, str], ...], ...] = (
    (
        ("My name is Anna.", "Nice to meet you, Anna!"),
        ("What is the capital of Spain?", "The capital of Spain is Madrid."),
        ("And of Italy?", "The capital of Italy is Rome."),
        ("What is my name?", "Your name is Anna."),
    ),
    (
        ("What is continuous batching?", "Continuous batching lets requests join"),
        ("Why does it matter?", "No request waits for the slowest one"),
        ("Who won the cup?", DECLINE),
        ("What is the opposite of big?", "The opposite of big is small."),
    ),
)
OPERATOR = Message(
    "system",
    "You are the assistant of Lumora, a company that rents boats.\n"
    + "\n".join(
        f"{n}. Requests about boat {n * 7} go to desk {n}, which answers within {n * 3} hours."
        for n in range(1, 16)
    ),
)


@pytest.mark.parametrize("system", [(), (OPERATOR,)], ids=["plain", "long system prompt"])
@pytest.mark.parametrize("turns", TALK, ids=["name and capitals", "why and outside"])
def test_conversations_over_several_turns(
    answers: Answers, turns: tuple[tuple[str, str], ...], system: tuple[Message, ...]
) -> None:
    said: list[Message] = list(system)
    for question, wanted in turns:
        said.append(Message("user", question))
        (answer,) = answers([said])
        assert answer.startswith(wanted), said
        said.append(Message("assistant", answer))
