"""The tasks of the bundled model: each takes the chat so far and gives a user message and its
answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.demo import corpus_facts as facts
from engine.demo import corpus_phrases as ask
from engine.demo.corpus_draw import Draw, with_article
from engine.demo.corpus_mesh import TERMS
from engine.demo.corpus_outside import decline, outside_message
from engine.demo.corpus_serving import Entry
from engine.demo.corpus_talk import TALK
from engine.demo.corpus_words import THINGS

Turn = tuple[str, str]
TOO_BIG = (
    "That is too big for me: I add and subtract numbers up to 20 and multiply numbers up to 10."
)
NO_NAME = "You have not told me your name yet."
FAVOURITES: dict[str, tuple[str, ...]] = {
    "colour": (
        "red", "blue", "green", "yellow", "pink", "purple", "orange", "brown", "black", "white",
    ),
    "animal": (*facts.SOUNDS, "panda", "zebra", "koala", "otter", "whale", "rabbit"),
    "city": tuple(facts.CAPITALS.values()),
    "food": ("pizza", "soup", "rice", "bread", "cake", "salad", "pasta", "fish", "curry", "apples"),
    "number": tuple(str(n) for n in range(1, 100)),
}  # fmt: skip


@dataclass
class Chat:
    """What earlier turns left behind.

    name: the user's name once told; subject: (kind, item) of the last fact, for elliptic
    follow-ups; favourites: kind -> what the user likes best; asked: all user messages so far.
    """

    draw: Draw
    name: str | None = None
    subject: tuple[str, str] | None = None
    favourites: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    answer: str | None = None

    def take(self, task: str) -> Turn:
        """One turn of that task."""
        before = self.subject
        self.subject = None
        turn = MAKERS[task](self, before)
        self.asked.append(turn[0])
        self.answer = turn[1]
        return turn

    def follows(self, before: tuple[str, str] | None, kind: str) -> bool:
        """Whether to ask elliptically, which only makes sense right after the same kind of fact."""
        return before is not None and before[0] == kind and self.draw.chance(0.6)


def bare(term: str) -> str:
    """The term without its article."""
    for article in ("a ", "an ", "the "):
        if term.startswith(article):
            return term[len(article) :]
    return term


def sentence(text: str) -> str:
    """The text with a capital first letter."""
    return text[0].upper() + text[1:]


def _term_name(draw: Draw, entry: Entry) -> str:
    return draw.any_of(entry[1]) if entry[1] and draw.chance(0.3) else entry[0]


def definition(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    entry = draw.any_of(TERMS)
    name = _term_name(draw, entry)
    if chat.follows(before, "term"):
        question = draw.split_of(ask.AND_OF).format(name if draw.chance(0.5) else bare(name))
    elif draw.chance(0.62):
        question = draw.split_of(ask.DEFINE).format(name)
    else:
        question = draw.split_of(ask.DEFINE_BARE).format(bare(name))
    chat.subject = ("term", entry[0])
    return draw.as_typed(question), entry[2]


def why(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    if before is not None and before[0] == "term" and draw.chance(0.75):
        entry = next(entry for entry in TERMS if entry[0] == before[1])
        return draw.as_typed(draw.split_of(ask.WHY)), entry[3]
    entry = draw.any_of(TERMS)
    chat.subject = ("term", entry[0])
    return draw.as_typed(draw.split_of(ask.WHY_TERM).format(_term_name(draw, entry))), entry[3]


def difference(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    first = draw.any_of(TERMS)
    second = draw.any_of(TERMS)
    while second is first:
        second = draw.any_of(TERMS)
    question = draw.split_of(ask.DIFFERENCE)
    names = (first[0], second[0]) if draw.chance(0.6) else (bare(first[0]), bare(second[0]))
    return draw.as_typed(question.format(*names)), f"{first[2]} {second[2]}"


def capital(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    country = draw.any_of(tuple(facts.CAPITALS))
    city = facts.CAPITALS[country]
    kind = draw.rng.random()
    if kind < 0.16:
        return draw.as_typed(
            draw.split_of(ask.COUNTRY).format(city)
        ), f"{city} is the capital of {country}."
    if kind < 0.22:
        other = draw.any_of(tuple(facts.CAPITALS.values())) if draw.chance(0.5) else city
        verdict = (
            f"Yes, {city} is the capital of {country}."
            if other == city
            else f"No, the capital of {country} is {city}."
        )
        return draw.as_typed(draw.any_of(ask.IS_CAPITAL).format(other, country)), verdict
    aliases = facts.COUNTRY_ALIASES.get(country, ())
    name = draw.any_of(aliases) if aliases and draw.chance(0.5) else country
    phrasings = ask.CAPITAL_AND if chat.follows(before, "country") else ask.CAPITAL
    chat.subject = ("country", country)
    return draw.as_typed(
        draw.split_of(phrasings).format(name)
    ), f"The capital of {country} is {city}."


def opposite(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    pair = draw.any_of(facts.OPPOSITES)
    word, other = pair if draw.chance(0.5) else pair[::-1]
    phrasings = ask.OPPOSITE_AND if chat.follows(before, "opposite") else ask.OPPOSITE
    chat.subject = ("opposite", word)
    return draw.as_typed(
        draw.split_of(phrasings).format(word)
    ), f"The opposite of {word} is {other}."


def colour(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    if draw.chance(0.2):
        one, two, made = draw.any_of(facts.MIXES)
        if draw.chance(0.5):
            one, two = two, one
        return draw.as_typed(
            draw.split_of(ask.MIX).format(one, two)
        ), f"{sentence(one)} and {two} make {made}."
    thing = draw.any_of(tuple(facts.COLOURS))
    phrasings = ask.COLOUR_AND if chat.follows(before, "colour") else ask.COLOUR
    chat.subject = ("colour", thing)
    return draw.as_typed(
        draw.split_of(phrasings).format(thing)
    ), f"{sentence(thing)} is {facts.COLOURS[thing]}."


def animal(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    kind = draw.rng.random()
    if kind < 0.25:
        grown = draw.any_of(tuple(facts.YOUNG))
        answer = f"A young {grown} is called a {facts.YOUNG[grown]}."
        return draw.as_typed(draw.split_of(ask.YOUNG).format(grown)), answer.replace(
            " a owlet", " an owlet"
        )
    name = draw.any_of(tuple(facts.SOUNDS))
    answer = f"{sentence(with_article(name))} goes {facts.SOUNDS[name]}."
    if kind < 0.35 and list(facts.SOUNDS.values()).count(facts.SOUNDS[name]) == 1:
        return draw.as_typed(draw.any_of(ask.WHICH_ANIMAL).format(facts.SOUNDS[name])), answer
    phrasings = ask.SOUND_AND if chat.follows(before, "sound") else ask.SOUND
    chat.subject = ("sound", name)
    spoken = f"the {name}" if draw.chance(0.25) else with_article(name)
    return draw.as_typed(draw.split_of(phrasings).format(spoken)), answer


def arithmetic(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw, rng = chat.draw, chat.draw.rng
    sign = draw.any_of(("+", "-", "*"))
    top = 10 if sign == "*" else 20
    a, b = rng.randint(0, top), rng.randint(0, top)
    small = draw.chance(0.88)
    if not small:
        a, b = rng.randint(top + 5, 5000), rng.randint(0, 5000)
        a, b = (b, a) if draw.chance(0.3) else (a, b)
    spoken = {"+": ("+", "+", "plus"), "-": ("-", "-", "minus"), "*": ("*", "x", "times")}[sign]
    word = draw.any_of(spoken)
    gap = "" if len(word) == 1 and draw.chance(0.3) else " "
    phrasings = ask.SUM_AND if chat.follows(before, "sum") else ask.SUM
    chat.subject = ("sum", sign)
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    symbol = "x" if sign == "*" else sign
    answer = f"{a} {symbol} {b} = {value}." if small else TOO_BIG
    return draw.as_typed(draw.split_of(phrasings).format(f"{a}{gap}{word}{gap}{b}")), answer


def calendar(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    months = draw.chance(0.55)
    names = facts.MONTHS if months else facts.DAYS
    at = draw.rng.randrange(len(names))
    if draw.chance(0.35):
        phrasings: tuple[str, ...] = ask.BEFORE_MONTH if months else ask.BEFORE_DAY
        return draw.as_typed(
            draw.any_of(phrasings).format(names[at])
        ), f"Before {names[at]} comes {names[at - 1]}."
    named: tuple[str, ...] = ask.AFTER_MONTH if months else ask.AFTER_DAY
    phrasings = ask.AFTER if draw.chance(0.4) else named
    after = names[(at + 1) % len(names)]
    return draw.as_typed(
        draw.any_of(phrasings).format(names[at])
    ), f"After {names[at]} comes {after}."


def count(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    low = 1 if draw.chance(0.4) else draw.rng.randint(1, 15)
    high = min(20, low + draw.rng.randint(2, 12))
    numbers = ", ".join(str(n) for n in range(low, high + 1))
    if low == 1 and draw.chance(0.5):
        return draw.as_typed(
            draw.any_of(("Count to {}.", "Can you count to {}?")).format(high)
        ), f"{numbers}."
    return draw.as_typed(draw.any_of(ask.COUNT).format(low, high)), f"{numbers}."


def story(draw: Draw, hero: str, name: str | None) -> str:
    """A short story by grammar: a hero, a place, a find, a friend, a choice and an ending."""
    called = name or draw.any_of(facts.HERO_NAMES)
    mood, place = draw.any_of(facts.MOODS), draw.any_of(facts.PLACES)
    find, friend = draw.any_of(facts.FINDS), draw.any_of(facts.FRIENDS)
    lines = [
        f"Once upon a time there was {with_article(mood)} {hero} called {called}, "
        f"who lived {place}.",
        f"One morning {called} found {find}.",
    ]
    if draw.chance(0.5):
        lines.append(draw.any_of((
            "Nobody knew where it came from.",
            "It shone in the first light of day.",
            f"{called} had never seen such a thing.",
        )))  # fmt: skip
    lines.append(draw.any_of((
        f"On the way home {called} met {friend}, who asked for help.",
        f"{sentence(friend)} came by and told {called} what to do with it.",
        f"{called} took it to {friend}, and together they set out.",
    )))  # fmt: skip
    lines.append(draw.any_of((
        f"{called} was afraid at first, but did not give up.",
        f"It was a long way, but {called} sang all the time.",
        f"They had to cross a river, and {called} built a raft.",
    )))  # fmt: skip
    lines.append(draw.any_of(facts.ENDINGS))
    return " ".join(lines)


def tell_story(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    hero = draw.any_of(facts.HEROES)
    if draw.chance(0.25):
        return draw.as_typed(draw.split_of(ask.STORY_ANY)), story(draw, hero, None)
    return draw.as_typed(draw.split_of(ask.STORY).format(with_article(hero))), story(
        draw, hero, None
    )


def joke(chat: Chat, before: tuple[str, str] | None) -> Turn:
    return chat.draw.as_typed(chat.draw.split_of(ask.JOKE)), chat.draw.any_of(facts.JOKES)


def talk(chat: Chat, before: tuple[str, str] | None) -> Turn:
    questions, answer = chat.draw.any_of(TALK)
    return chat.draw.as_typed(chat.draw.split_of(questions)), answer


def tell_name(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    chat.name = draw.person()
    told = draw.split_of(ask.TELL_NAME).format(chat.name)
    greeting = f"Nice to meet you, {chat.name}!"
    if draw.chance(0.2):
        asked, answer = draw.any_of((capital, opposite, definition, colour))(chat, None)
        return f"{told.rstrip('.')}. {asked}", f"{greeting} {answer}"
    return (
        told.lower() if draw.chance(0.15) else told.rstrip(".") if draw.chance(0.2) else told
    ), greeting


def ask_name(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    return draw.as_typed(
        draw.split_of(ask.ASK_NAME)
    ), f"Your name is {chat.name}." if chat.name else NO_NAME


def favourite(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    if chat.favourites and draw.chance(0.6):
        kind = draw.any_of(tuple(chat.favourites))
        answer = f"Your favourite {kind} is {chat.favourites[kind]}."
        return draw.as_typed(draw.split_of(ask.ASK_FAVOURITE).format(kind)), answer
    kind = draw.any_of(tuple(FAVOURITES))
    if kind not in chat.favourites and draw.chance(0.1):
        answer = f"You have not told me your favourite {kind} yet."
        return draw.as_typed(draw.split_of(ask.ASK_FAVOURITE).format(kind)), answer
    value = draw.any_of(FAVOURITES[kind])
    chat.favourites[kind] = value
    told = draw.split_of(ask.TELL_FAVOURITE).format(kind, value)
    return told, f"I will remember: your favourite {kind} is {value}."


def recall(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    kind = draw.rng.random()
    if not chat.asked:
        return draw.as_typed(
            draw.split_of(ask.ASK_LAST if kind < 0.6 else ask.ASK_FIRST)
        ), "This is your first message."
    if kind < 0.4 and len(chat.asked[-1]) < 100:
        return draw.as_typed(draw.split_of(ask.ASK_LAST)), f'You asked: "{chat.asked[-1]}"'
    if kind < 0.65 and len(chat.asked[0]) < 100:
        return draw.as_typed(
            draw.split_of(ask.ASK_FIRST)
        ), f'Your first message was: "{chat.asked[0]}"'
    if chat.answer is not None and len(chat.answer) < 260:
        return draw.as_typed(draw.split_of(ask.ASK_AGAIN)), chat.answer
    return talk(chat, before)


def repeat(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    words = [
        draw.invented() if draw.chance(0.4) else draw.any_of(THINGS)
        for _ in range(draw.rng.randint(1, 5))
    ]
    text = " ".join(words)
    return draw.split_of(ask.REPEAT).format(text), text


def outside(chat: Chat, before: tuple[str, str] | None) -> Turn:
    draw = chat.draw
    if (before is None or before[0] != "term") and chat.asked and draw.chance(0.04):
        return draw.as_typed(draw.split_of(ask.WHY)), decline(draw)
    return outside_message(draw), decline(draw)


Maker = Callable[[Chat, tuple[str, str] | None], Turn]
MAKERS: dict[str, Maker] = {
    "definition": definition, "why": why, "difference": difference, "capital": capital,
    "opposite": opposite, "colour": colour, "animal": animal, "arithmetic": arithmetic,
    "calendar": calendar, "count": count, "story": tell_story, "joke": joke, "talk": talk,
    "tell_name": tell_name, "ask_name": ask_name, "favourite": favourite, "recall": recall,
    "repeat": repeat, "outside": outside,
}  # fmt: skip
# Share of turns; what is hardest to learn or matters most weighs most.
TASKS: tuple[tuple[str, float], ...] = (
    ("outside", 0.28), ("definition", 0.16), ("why", 0.05), ("difference", 0.02),
    ("capital", 0.08), ("opposite", 0.055), ("colour", 0.04), ("animal", 0.04),
    ("arithmetic", 0.13), ("calendar", 0.015), ("count", 0.01), ("story", 0.03), ("joke", 0.01),
    ("talk", 0.09), ("tell_name", 0.05), ("ask_name", 0.035), ("favourite", 0.025),
    ("recall", 0.045), ("repeat", 0.02),
)  # fmt: skip
