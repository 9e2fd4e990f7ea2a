"""How people ask: phrasings of every taught question. `{}` is the gap; lists are split as in
`Draw`.
"""

from __future__ import annotations

# With the term's article ("a KV cache").
DEFINE = (
    "What is {}?", "What's {}?", "What is {}?", "Explain what {} is.", "Tell me what {} is.",
    "What is {} exactly?", "Can you explain what {} is?", "Please explain {}.",
    "Do you know what {} is?", "Can you tell me what {} is?", "I want to know what {} is.",
    "So what is {}?", "What is {} for?", "What exactly is {}?", "I do not know what {} is.",
    "What is {}, in short?", "What would you call {}?", "I keep hearing of {}. What is it?",
    "Could you explain {}?", "In simple words, what is {}?", "What is meant by {}?",
    "How would you describe {}?", "Explain {} to me.", "What do you call {}?",
    "Give me a definition of {}.", "What does {} do?", "How does {} work?", "Tell me about {}.",
    "Explain {}.", "Describe {}.", "What can you tell me about {}?",
    "My boss asked me about {}. What is it?",
)  # fmt: skip
# Without the article ("KV cache").
DEFINE_BARE = (
    "Define {}.", "{}?", "What does {} mean?", "Explain {}.", "{}", "Define {}",
    "What is the meaning of {}?", "Definition of {}", "What do people mean by {}?",
    "Explain {} please.", "what is {}", "Meaning of {}?", "Explain the word {}.",
    "What does the term {} mean?", "Explain the term {}.", "explain {} briefly",
    "{} - what is that?", "Define the term {}.", "What's {}?", "Describe {} in one sentence.",
    "{}: meaning?", "I do not understand {}.", "Tell me about {}.",
    "Give me the definition of {}.",
)  # fmt: skip
WHY = (
    "Why does it matter?", "Why is that useful?", "Why?", "Why is it important?",
    "What is it good for?", "And why is that good?", "Why would I want that?",
    "Why does that help?", "What is the benefit?", "Why do people use it?",
    "What is the point of it?", "Why is that?", "And why?", "What is the advantage?",
    "How does that help?", "Why should I care?",
)  # fmt: skip
WHY_TERM = (
    "Why does {} matter?", "Why is {} useful?", "Why is {} important?",
    "What is the benefit of {}?", "What is {} good for?", "Why do I need {}?",
    "Why would I use {}?", "Why do people use {}?", "What is the point of {}?",
    "What is the advantage of {}?", "Why should I care about {}?",
)  # fmt: skip
DIFFERENCE = (
    "What is the difference between {} and {}?", "Compare {} and {}.",
    "What's the difference of {} and {}?", "How does {} differ from {}?", "Explain {} and {}.",
    "What are {} and {}?", "{} vs {}?", "{} versus {}",
    "Tell me the difference between {} and {}.",
)  # fmt: skip
AND_OF = (
    "And {}?", "What about {}?", "And what about {}?", "How about {}?", "{}?", "and {}", "Now {}.",
    "And for {}?", "Same for {}.", "ok, and {}?",
)  # fmt: skip

CAPITAL = (
    "What is the capital of {}?", "What's the capital of {}?", "Tell me the capital of {}.",
    "Which city is the capital of {}?", "Name the capital of {}.", "capital of {}",
    "Capital of {}?", "What is {}'s capital?", "Do you know the capital of {}?",
    "What is the capital city of {}?", "Can you tell me the capital of {}?",
    "I need the capital of {}.", "Which is the capital of {}?", "What city is the capital of {}?",
    "Give me the capital of {}.", "{}: what is the capital?",
    "What is the name of the capital of {}?", "Please tell me what the capital of {} is.",
)  # fmt: skip
CAPITAL_AND = (
    "And of {}?",
    "and of {}",
    "And the capital of {}?",
    "What about {}?",
    "And {}?",
    "How about {}?",
)
COUNTRY = (
    "{} is the capital of which country?", "Which country has {} as its capital?",
    "Of what is {} the capital?", "In which country is {}?", "{} is the capital of what?",
    "Which country's capital is {}?", "What country is {} the capital of?", "Where is {}?",
    "What country is {} in?",
)  # fmt: skip
IS_CAPITAL = (
    "Is {} the capital of {}?", "Is it true that {} is the capital of {}?",
    "{} is the capital of {}, right?",
)  # fmt: skip

OPPOSITE = (
    "What is the opposite of {}?", "What's the opposite of {}?", "opposite of {}",
    "The opposite of {}?", "Tell me the opposite of {}.", "Name the opposite of {}.",
    "What is the antonym of {}?", "Antonym of {}?", "Give me the opposite of {}.",
    "Which word is the opposite of {}?", "What is the contrary of {}?",
    "If it is not {}, what is it?", "Do you know the opposite of {}?",
)  # fmt: skip
OPPOSITE_AND = (
    "And of {}?",
    "and of {}",
    "And {}?",
    "What about {}?",
    "And the opposite of {}?",
    "How about {}?",
)

COLOUR = (
    "What colour is {}?", "What color is {}?", "Which colour does {} have?",
    "What is the colour of {}?", "What is the color of {}?", "Tell me the colour of {}.",
    "What colour does {} have?", "colour of {}", "Do you know what colour {} is?",
    "Which color is {}?", "In what colour is {}?",
)  # fmt: skip
COLOUR_AND = ("And {}?", "What about {}?", "and {}", "How about {}?", "And the colour of {}?")
MIX = (
    "What do {} and {} make?", "What do you get when you mix {} and {}?", "Mix {} and {}.",
    "What colour do {} and {} make?", "What is {} plus {}?", "If I mix {} with {}, what do I get?",
    "What color is a mix of {} and {}?", "Which colour comes from {} and {}?",
)  # fmt: skip

SOUND = (
    "What sound does {} make?", "What does {} say?", "What noise does {} make?",
    "How does {} sound?", "Which sound does {} make?", "Tell me the sound of {}.",
    "How does {} go?", "What is the sound of {}?", "Do you know what sound {} makes?",
    "What does {} sound like?",
)  # fmt: skip
SOUND_AND = ("And {}?", "What about {}?", "and {}", "How about {}?", "And what does {} say?")
WHICH_ANIMAL = (
    "Which animal goes {}?",
    "What animal says {}?",
    "Who goes {}?",
    "Which animal says {}?",
)
YOUNG = (
    "What is a young {} called?", "What is a baby {} called?", "What do you call a baby {}?",
    "What do you call a young {}?", "What is the name of a young {}?", "How is a baby {} called?",
)  # fmt: skip

SUM = (
    "What is {}?", "{}", "{} = ?", "How much is {}?", "Compute {}.", "Calculate {}.", "{} =",
    "what's {}", "Can you compute {}?", "Tell me {}.", "What does {} make?", "Please add up {}.",
    "{}?",
)  # fmt: skip
SUM_AND = ("And {}?", "What about {}?", "and {}", "Now {}.")
AFTER = (
    "What comes after {}?",
    "Which one comes after {}?",
    "What follows {}?",
    "What is next after {}?",
)
AFTER_DAY = ("What day comes after {}?", "Which day follows {}?", "What is the day after {}?")
AFTER_MONTH = (
    "What month comes after {}?",
    "Which month follows {}?",
    "What is the month after {}?",
)
BEFORE_DAY = ("What day comes before {}?", "Which day is before {}?", "What is the day before {}?")
BEFORE_MONTH = (
    "What month comes before {}?",
    "Which month is before {}?",
    "What is the month before {}?",
)
COUNT = (
    "Count from {} to {}.", "Please count from {} to {}.", "Can you count from {} to {}?",
    "count from {} to {}", "List the numbers from {} to {}.",
)  # fmt: skip

STORY = (
    "Tell me a story about {}.", "Write a story about {}.", "Tell a story about {}.",
    "A story about {}, please.", "Can you tell me a story about {}?", "I want a story about {}.",
    "Make up a story about {}.", "Write a short story about {}.",
    "Tell me a short story about {}.", "Give me a story about {}.", "story about {}",
    "Please write a tale about {}.", "Tell me a tale of {}.", "Could you invent a story about {}?",
)  # fmt: skip
STORY_ANY = (
    "Tell me a story.", "Write a story.", "A story, please.", "Can you tell a story?",
    "Tell me a short story.", "I would like a story.", "Do you know a story?", "Another story!",
    "Tell me another story.", "Once upon a time", "Read me a bedtime story.",
)  # fmt: skip
JOKE = (
    "Tell me a joke.", "Do you know a joke?", "Make me laugh.", "A joke, please.",
    "Can you tell a joke?", "Say something funny.", "joke", "Another joke!",
    "I want to hear a joke.",
)  # fmt: skip

TELL_NAME = (
    "My name is {}.", "I am {}.", "I'm {}.", "Hello, my name is {}.", "Hi, I am {}.",
    "Call me {}.", "Hi, I'm {}.", "You can call me {}.", "They call me {}.", "Hello! I am {}.",
    "Hey, {} here.", "This is {}.", "Good day, I am {}.", "Please call me {}.",
    "People call me {}.", "Remember: my name is {}.", "My name's {}.",
)  # fmt: skip
ASK_NAME = (
    "What is my name?", "Do you know my name?", "Who am I?", "What's my name?",
    "Do you remember my name?", "Tell me my name.", "What am I called?",
    "Can you remember my name?", "Say my name.", "What was my name?", "How am I called?",
    "Do you still know my name?", "What did I say my name was?",
)  # fmt: skip
TELL_FAVOURITE = (
    "My favourite {} is {}.", "My favorite {} is {}.", "Remember that my favourite {} is {}.",
    "By the way, my favourite {} is {}.", "I have a favourite {}: {}.",
)  # fmt: skip
ASK_FAVOURITE = (
    "What is my favourite {}?", "Do you remember my favourite {}?", "Which {} is my favourite?",
    "What's my favorite {}?", "Tell me my favourite {}.", "Do you know my favourite {}?",
)  # fmt: skip
ASK_LAST = (
    "What did I ask before?", "What did I just ask?", "What was my last question?",
    "What did I say before?", "What was my previous question?", "Repeat my last question.",
    "What did I ask you just now?", "What was my last message?", "What did I just say?",
    "Do you remember what I asked?",
)  # fmt: skip
ASK_FIRST = (
    "What was my first question?", "What did I ask first?", "What did I say first?",
    "What was my first message?", "How did this chat begin?", "What was the first thing I said?",
)  # fmt: skip
ASK_AGAIN = (
    "Say that again.", "Repeat that.", "Repeat your last answer.", "Can you repeat that?",
    "What did you say?", "Once more, please.", "Pardon?", "Please say it again.", "Come again?",
    "I did not get that.",
)  # fmt: skip
REPEAT = (
    "Repeat after me: {}",
    "Say: {}",
    "Repeat: {}",
    "Please say {}",
    "Repeat these words: {}",
    "Echo {}",
)
