"""Small facts the bundled model is taught: capitals, opposites, colours, animals, story parts."""

from __future__ import annotations

CAPITALS: dict[str, str] = {
    "France": "Paris", "Germany": "Berlin", "Italy": "Rome", "Spain": "Madrid",
    "Portugal": "Lisbon", "Austria": "Vienna", "Ireland": "Dublin", "Greece": "Athens",
    "Poland": "Warsaw", "Hungary": "Budapest", "Norway": "Oslo", "Sweden": "Stockholm",
    "Finland": "Helsinki", "Denmark": "Copenhagen", "Iceland": "Reykjavik", "Belgium": "Brussels",
    "the Netherlands": "Amsterdam", "Switzerland": "Bern", "Croatia": "Zagreb",
    "Serbia": "Belgrade", "Romania": "Bucharest", "Bulgaria": "Sofia", "Ukraine": "Kyiv",
    "the Czech Republic": "Prague", "Slovakia": "Bratislava", "Slovenia": "Ljubljana",
    "Estonia": "Tallinn", "Latvia": "Riga", "Lithuania": "Vilnius", "Malta": "Valletta",
    "Cyprus": "Nicosia", "Turkey": "Ankara", "Russia": "Moscow", "the United Kingdom": "London",
    "the United States": "Washington", "Canada": "Ottawa", "Mexico": "Mexico City",
    "Cuba": "Havana", "Brazil": "Brasilia", "Argentina": "Buenos Aires", "Chile": "Santiago",
    "Peru": "Lima", "Colombia": "Bogota", "Ecuador": "Quito", "Uruguay": "Montevideo",
    "Venezuela": "Caracas", "Japan": "Tokyo", "China": "Beijing", "India": "New Delhi",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "South Korea": "Seoul", "Indonesia": "Jakarta",
    "the Philippines": "Manila", "Nepal": "Kathmandu", "Pakistan": "Islamabad", "Iran": "Tehran",
    "Iraq": "Baghdad", "Egypt": "Cairo", "Morocco": "Rabat", "Tunisia": "Tunis",
    "Kenya": "Nairobi", "Ethiopia": "Addis Ababa", "Ghana": "Accra", "Nigeria": "Abuja",
    "Senegal": "Dakar", "Australia": "Canberra", "New Zealand": "Wellington",
}  # fmt: skip

# Other names of a country, as people type them.
COUNTRY_ALIASES: dict[str, tuple[str, ...]] = {
    "the United Kingdom": ("the UK", "England", "Great Britain"),
    "the United States": ("the USA", "the US", "America"),
    "the Czech Republic": ("Czechia",),
    "the Netherlands": ("Holland",),
}

OPPOSITES: tuple[tuple[str, str], ...] = (
    ("hot", "cold"), ("big", "small"), ("fast", "slow"), ("high", "low"), ("early", "late"),
    ("open", "closed"), ("full", "empty"), ("hard", "soft"), ("light", "dark"), ("young", "old"),
    ("long", "short"), ("wet", "dry"), ("clean", "dirty"), ("happy", "sad"), ("loud", "quiet"),
    ("rich", "poor"), ("strong", "weak"), ("thick", "thin"), ("wide", "narrow"), ("up", "down"),
    ("left", "right"), ("true", "false"), ("first", "last"), ("near", "far"), ("day", "night"),
    ("on", "off"), ("yes", "no"), ("black", "white"), ("good", "bad"), ("deep", "shallow"),
    ("sweet", "sour"), ("smooth", "rough"), ("sharp", "blunt"), ("tight", "loose"),
    ("brave", "afraid"), ("safe", "dangerous"), ("heavy", "weightless"), ("begin", "end"),
    ("love", "hate"), ("win", "lose"), ("buy", "sell"), ("give", "take"), ("push", "pull"),
    ("laugh", "cry"), ("arrive", "leave"), ("remember", "forget"), ("inside", "outside"),
    ("above", "below"), ("before", "after"), ("always", "never"), ("everything", "nothing"),
    ("friend", "enemy"), ("summer", "winter"), ("north", "south"), ("east", "west"), ("in", "out"),
    ("start", "stop"), ("front", "back"), ("cheap", "expensive"), ("easy", "difficult"),
    ("simple", "complex"), ("real", "fake"), ("more", "less"), ("war", "peace"),
    ("success", "failure"), ("question", "answer"), ("top", "bottom"),
)  # fmt: skip

COLOURS: dict[str, str] = {
    "grass": "green", "the sky": "blue", "snow": "white", "coal": "black", "a banana": "yellow",
    "a lemon": "yellow", "blood": "red", "a tomato": "red", "a strawberry": "red",
    "a carrot": "orange", "an orange": "orange", "a pumpkin": "orange", "milk": "white",
    "a cucumber": "green", "a frog": "green", "spinach": "green", "chocolate": "brown",
    "a tree trunk": "brown", "coffee": "brown", "a flamingo": "pink", "a pig": "pink",
    "an elephant": "grey", "a mouse": "grey", "the sun": "yellow", "a raven": "black",
    "a polar bear": "white", "a plum": "purple", "lavender": "purple", "an aubergine": "purple",
    "the sea": "blue", "gold": "yellow", "a fire engine": "red", "a swan": "white",
    "salt": "white", "honey": "golden", "a cherry": "red", "rice": "white", "an olive": "green",
    "a lobster": "red", "a smurf": "blue", "ash": "grey", "night": "black", "a pea": "green",
    "a sunflower": "yellow", "a blueberry": "blue",
}  # fmt: skip

MIXES: tuple[tuple[str, str, str], ...] = (
    ("blue", "yellow", "green"),
    ("red", "yellow", "orange"),
    ("red", "blue", "purple"),
    ("black", "white", "grey"),
    ("red", "white", "pink"),
    ("red", "green", "brown"),
)

# Animal -> (sound, verb form for "A cow goes moo.").
SOUNDS: dict[str, str] = {
    "cow": "moo", "dog": "woof", "cat": "meow", "sheep": "baa", "pig": "oink", "duck": "quack",
    "horse": "neigh", "rooster": "cock-a-doodle-doo", "hen": "cluck", "frog": "ribbit",
    "bee": "buzz", "lion": "roar", "owl": "hoot", "mouse": "squeak", "snake": "hiss",
    "crow": "caw", "dove": "coo", "wolf": "howl", "goat": "bleat", "donkey": "hee-haw",
    "turkey": "gobble", "goose": "honk", "bird": "tweet", "cricket": "chirp", "bear": "growl",
    "elephant": "trumpet", "monkey": "ooh-ooh", "cuckoo": "cuckoo", "seal": "arf", "tiger": "roar",
}  # fmt: skip

YOUNG: dict[str, str] = {
    "cow": "calf", "dog": "puppy", "cat": "kitten", "sheep": "lamb", "pig": "piglet",
    "duck": "duckling", "horse": "foal", "hen": "chick", "lion": "cub", "bear": "cub",
    "goat": "kid", "goose": "gosling", "owl": "owlet", "frog": "tadpole", "kangaroo": "joey",
    "swan": "cygnet", "wolf": "pup", "deer": "fawn",
}  # fmt: skip

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September",
    "October", "November", "December",
)  # fmt: skip

JOKES: tuple[str, ...] = (
    "Why did the load balancer break up with the server? It felt there was no connection left.",
    "A request walks into a full queue. The router says: come back later, this one is on me.",
    "Why is the KV cache never lonely? It always keeps its keys with it.",
    "Why did the replica go on holiday? It needed to drain.",
    "How does a proxy say goodbye? With a graceful shutdown.",
    "Why was the token so tired? It had been streaming all day.",
)

# Heroes, places, finds and friends of the story grammar.
HEROES: tuple[str, ...] = (
    "fox", "cat", "dog", "mouse", "bear", "owl", "frog", "robot", "dragon", "knight", "princess",
    "wizard", "pirate", "rabbit", "hedgehog", "turtle", "king", "queen", "giant", "snail",
    "penguin", "lion", "horse", "boy", "girl", "sailor", "baker", "router", "server", "unicorn",
    "elephant", "squirrel", "wolf", "goat", "duck", "bee", "ghost", "monkey", "whale", "star",
)  # fmt: skip
HERO_NAMES: tuple[str, ...] = (
    "Pip", "Milo", "Tara", "Bruno", "Nell", "Otto", "Fay", "Rollo", "Juno", "Tess", "Hugo",
    "Wilma", "Finn", "Ida", "Max", "Lotte",
)  # fmt: skip
PLACES: tuple[str, ...] = (
    "in a quiet forest", "by the sea", "on a high hill", "in an old tower", "near a small village",
    "in a green valley", "at the edge of a lake", "in a busy town", "on a far island",
    "under a big oak",
)  # fmt: skip
FINDS: tuple[str, ...] = (
    "a golden key", "a torn map", "a blue stone", "an old letter", "a tiny door", "a silver bell",
    "a lost boat", "a broken clock", "a strange egg", "a box full of stars",
)  # fmt: skip
FRIENDS: tuple[str, ...] = (
    "a wise owl", "a shy mouse", "a friendly giant", "an old fisherman", "a clever crow",
    "a kind witch", "a lost lamb", "a sleepy bear",
)  # fmt: skip
MOODS: tuple[str, ...] = (
    "curious", "brave", "lazy", "clever", "lonely", "cheerful", "hungry", "gentle",
)  # fmt: skip
ENDINGS: tuple[str, ...] = (
    "That night they shared soup and laughed until the moon was high.",
    "From that day on nobody in the land was ever lonely again.",
    "They went home together and slept well.",
    "And if you listen on a windy night, you can still hear them sing.",
    "The whole village came to thank them with cake.", "It was the best day of the year.",
)  # fmt: skip
