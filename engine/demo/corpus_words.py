"""Words for questions the bundled model must decline: things, topics, people, deeds, other
tongues.

None of these may be something the model is taught. Every eighth word of a list (by position) is
kept out of training and used only for measuring how the refusal generalises.
"""

from __future__ import annotations

_THINGS = """
bicycle umbrella volcano telescope guitar pyramid submarine microscope refrigerator violin dinosaur
comet glacier earthquake tornado rainbow mirror candle bridge castle cathedral lighthouse windmill
airplane helicopter rocket satellite spaceship tractor motorcycle engine battery magnet compass
thermometer calculator keyboard laptop smartphone television radio camera printer headphone lamp
pillow blanket carpet curtain wardrobe kitchen bathroom ladder hammer screwdriver saw drill nail
wallet passport suitcase backpack ticket stamp envelope newspaper dictionary novel poem painting
sculpture museum theatre opera symphony piano trumpet drum flute harp ballet film cartoon puzzle
chess football tennis basketball cricket bat golf marathon swimming skiing surfing yoga boxing judo
pizza spaghetti burger sandwich sushi curry soup salad cheese bread butter yoghurt pancake waffle
cookie muffin cake pie icecream popcorn potato onion garlic broccoli mushroom pepper avocado mango
pineapple coconut peach apricot melon grape walnut almond vinegar mustard ketchup mayonnaise whisky
wine beer cocktail lemonade tea oatmeal kangaroo crocodile giraffe hippo rhino gorilla chimpanzee
dolphin shark octopus jellyfish salmon trout eagle falcon parrot peacock ostrich butterfly spider
scorpion mosquito beetle worm dinosaurs mammoth camel llama hamster gerbil iguana chameleon rose
tulip orchid cactus bamboo oak maple fern moss algae bacteria virus vaccine antibiotic protein
vitamin enzyme hormone neuron kidney liver heart lung stomach skeleton muscle tendon skin tooth
tongue eyebrow elbow knee ankle diamond granite marble iron copper silver platinum uranium oxygen
hydrogen helium carbon nitrogen methane plastic rubber leather cotton wool silk velvet denim
telescope galaxy planet asteroid eclipse nebula quasar blackhole meteor gravity electricity
friction entropy momentum photon electron quark atom molecule isotope laser radar sonar transistor
resistor capacitor diode turbine reactor furnace boiler chimney elevator escalator parachute
balloon zeppelin canoe yacht ferry anchor harbour canal dam reservoir aqueduct tunnel highway
railway subway tram taxi ambulance hospital pharmacy bakery butcher supermarket library university
kindergarten prison embassy parliament courthouse stadium airport casino hotel restaurant cafe
nightclub playground zoo aquarium circus carnival wedding funeral birthday christmas easter
halloween ramadan mortgage insurance tax pension salary inflation recession bond dividend currency
bitcoin bank loan budget invoice contract patent trademark copyright lawsuit verdict jury lawyer
judge senator mayor governor minister emperor pharaoh samurai viking gladiator monk bishop pope
prophet angel demon vampire zombie mermaid goblin fairy sphinx phoenix centaur
"""

_TOPICS = """
quantum mechanics|photosynthesis|the French Revolution|world history|the stock market|inflation
climate change|the Roman Empire|the Middle Ages|the Cold War|evolution|plate tectonics|general
relativity|string theory|organic chemistry|linear algebra|calculus|geometry|statistics|probability
philosophy|existentialism|stoicism|buddhism|christianity|islam|judaism|hinduism|mythology|astrology
psychology|sociology|anthropology|economics|politics|democracy|communism|capitalism|feminism|law
human rights|immigration|gun control|nuclear power|solar energy|electric cars|space travel|aliens
black holes|the big bang|dark matter|time travel|free will|consciousness|dreams|sleep|meditation
nutrition|vegan food|weight loss|bodybuilding|first aid|migraine|diabetes|cancer|covid|the flu
vaccination|pregnancy|parenting|marriage|divorce|dating|friendship|grief|anxiety|depression|stress
gardening|beekeeping|fishing|hunting|sailing|hiking|camping|mountaineering|cycling|motor racing
football|the Olympic games|the world cup|chess openings|poker|video games|board games|lego|anime
manga|comics|jazz|hip hop|classical music|rock music|opera|painting|photography|sculpture
architecture|fashion|make-up|tattoos|hairstyles|jewellery|perfume|interior design|carpentry
plumbing|welding|knitting|sewing|pottery|cooking|baking|barbecue|wine tasting|coffee roasting
cheese making|brewing|Python programming|Java|C++|Rust|JavaScript|HTML|CSS|SQL|regular expressions
recursion|sorting|algorithms|binary trees|hash maps|compilers|operating systems|Linux|Windows|macOS
Android|iPhones|blockchain|cryptography|cybersecurity|phishing|databases|spreadsheets|web design
game development|robotics|drones|3D printing|virtual reality|self-driving cars
the internet of things|5G|WiFi|bluetooth|tax returns|mortgages|retirement|real estate
job interviews|resumes|negotiation|public speaking|marketing|advertising|sales|accounting
project management|startups|venture capital|leadership|grammar|spelling|punctuation|linguistics
poetry|Shakespeare|Greek tragedy|fairy tales|science fiction|horror films|westerns|soap operas
reality shows|celebrities|gossip|royal families|conspiracies|ufos|pirates of the Caribbean
dinosaurs|volcanoes|earthquakes|hurricanes|oceans|rivers|deserts|rainforests
"""

_PEOPLE = """
Napoleon|Cleopatra|Julius Caesar|Albert Einstein|Isaac Newton|Marie Curie|Charles Darwin|Galileo
Leonardo da Vinci|Michelangelo|Picasso|Van Gogh|Rembrandt|Mozart|Beethoven|Bach|Chopin|Elvis
Madonna|Shakespeare|Goethe|Tolstoy|Hemingway|Jane Austen|Agatha Christie|Homer|Dante|Plato
Aristotle|Socrates|Kant|Nietzsche|Freud|Gandhi|Nelson Mandela|Abraham Lincoln|George Washington
Winston Churchill|Stalin|Queen Victoria|Henry the Eighth|Joan of Arc|Columbus|Magellan|Marco Polo
Neil Armstrong|Yuri Gagarin|Nikola Tesla|Thomas Edison|Alan Turing|Ada Lovelace|Bill Gates
Steve Jobs|Elon Musk|Mark Zuckerberg|Pele|Maradona|Messi|Ronaldo|Serena Williams|Roger Federer
Usain Bolt|Muhammad Ali|Michael Jordan|Charlie Chaplin|Marilyn Monroe|Tom Hanks|Meryl Streep|Batman
Superman|Harry Potter|Sherlock Holmes|Donald Duck|Mickey Mouse|James Bond|Frodo|Darth Vader|Zeus
Thor|Buddha|Moses|the pope|the president|the prime minister|your boss|my neighbour|my teacher
the mayor of my town|the king of England
"""

_DEEDS = """
bake bread|fix a flat tyre|tie a tie|learn to swim|change a light bulb|write a letter|lose weight
make money|buy a house|sell a car|paint a wall|build a shed|plant tomatoes|train a puppy
raise chickens|catch a fish|boil an egg|cook pasta|make coffee|brew beer|iron a shirt
remove a stain|sew a button|knit a scarf|play the guitar|sing better|draw a face|take photographs
edit a video|start a blog|write a novel|learn Spanish|speak in public|find a job|ask for a raise
quit smoking|sleep better|wake|up early|stop snoring|cure a cold|treat a burn
lower my blood pressure|run a marathon|climb a mountain|ride a horse|drive a car|fly a plane
sail a boat|read a map|pack a suitcase|book a flight|get a visa|plan a wedding|choose a gift
apologise to a friend|make new friends|talk to girls|deal with stress|pass an exam|write an essay
solve an equation|compute an integral|prove a theorem|reverse a list|sort an array|parse JSON
install Linux|reset my password|delete my account|speed up my laptop|root a phone|block spam
host a website|center a div|merge two branches|write a for loop|open a file|read a csv
invest in stocks|save for retirement|file my taxes|get a loan|win the lottery|rob a bank
pick a lock|make a bomb|hack an account|hide a body|survive in the desert|start a fire
build an igloo|skip stones
"""

_QUALITIES = """
expensive tall heavy old dangerous popular famous healthy poisonous rare common useful big strong
fast beautiful ugly boring interesting difficult legal illegal magnetic edible waterproof alive
extinct toxic round flat hot cold bright noisy soft sticky funny scary cute smart stupid holy evil
modern ancient
"""

_VERBS = """
eat drink cook buy sell paint clean repair build break throw catch carry steal hide wear wash burn
freeze grow plant measure weigh invent discover study teach learn read write sing dance love hate
fear chase feed kiss vote visit climb cross swim fly drive ride marry kill save borrow lend rent
"""

_LABELS = """
movie|song|book|band|recipe|city|river|mountain|car|phone|game|team|restaurant|holiday|website
actor|painter|singer|writer|philosopher|scientist|planet|language|religion|currency|national flag
continent|ocean|desert|island|museum|company|brand|newspaper|programming language|operating system
browser|spelling|weather|time|date|temperature outside|price of gold|exchange rate|score|news
winner|meaning of life|speed of light|boiling point of water|distance to the moon
age of the universe|population
"""

_TONGUES = """
Wie ist das Wetter heute?|Was kostet ein Brot?|Kannst du mir helfen?|Wer bist du denn?
Guten Morgen, was machst du?|Erzähl mir etwas über Hunde.|Wo liegt der Bahnhof?|Ich habe Hunger.
Warum ist das Gras nass?|Quelle heure est-il ?|Où est la gare ?|Comment ça va ?
Je voudrais un café.|Parle-moi de la mer.|Quel temps fait-il demain ?|Pourquoi le chat dort-il ?
Qui a peint ce tableau ?|J'aime les pommes.|¿Qué hora es?|¿Dónde está la playa?|¿Cómo te llamas?
Me gusta el queso.|¿Quién ganó el partido?|Cuéntame un chiste.|¿Por qué llueve tanto?
Necesito un médico.|¿Cuánto cuesta esto?|Hola, ¿qué tal?|Che ore sono?|Dove si mangia bene?
Come stai oggi?|Mi piace il gelato.|Chi ha scritto questo libro?|Que horas são?|Onde fica o hotel?
Eu gosto de música.|Como está o tempo?|Quem és tu?|Hoe laat is het?|Waar is mijn fiets?
Wat eten we vanavond?|Vertel me een verhaal.|Ik begrijp het niet.|Jak se máš?|Kolik to stojí?
Gdzie jest dworzec?|Lubię herbatę.|Hvad hedder du?|Var är tåget?|Missä on kissa?|Kde je moje kniha?
Ce mai faci?|Nasılsın?|Saat kaç?|Bugün hava nasıl?|Quid agis?|Ubi est puella?|Привет, как дела?
Где находится музей?|Что это такое?|Я люблю чай.|Сколько времени?|你好吗?|今天天气怎么样?
你叫什么名字?
我喜欢猫。|おはよう。|これは何ですか?|猫が好きです。
안녕하세요?|오늘 뭐 해요?|Γεια σου, τι κάνεις;|Πού είναι το σπίτι;|مرحبا كيف حالك؟|ما هذا؟
שלום מה נשמע?|नमस्ते, आप कैसे हैं?
"""

_CODE = """
def f(x): return x + 1|print("hello world")|for i in range(10): print(i)|SELECT * FROM users;
import os|let x = 5;|console.log(42)|int main() { return 0; }|<div>hello</div>|git push origin main
rm -rf /|curl http://example.org|sudo apt install vim|{"key": "value"}|[1, 2, 3]|x = y ** 2 + 3
a && b||c|while True: pass|fn main() {}|#include <stdio.h>|public static void main|echo $HOME
ls -la|chmod 777|body { color: red; }|if (a > b) swap(a, b);|lambda x: x * x|try: x() except: pass
return null;|E = mc^2
"""


def _split(text: str, by: str | None) -> tuple[str, ...]:
    """Entries of a block without repeats: words, or phrases that end at `by` or at a line's end."""
    if by is None:
        return tuple(dict.fromkeys(text.split()))
    parts = [part.strip() for line in text.strip().split("\n") for part in line.split(by)]
    return tuple(dict.fromkeys(part for part in parts if part))


THINGS = _split(_THINGS, None)
TOPICS = _split(_TOPICS, "|")
PEOPLE = _split(_PEOPLE, "|")
DEEDS = _split(_DEEDS, "|")
QUALITIES = _split(_QUALITIES, None)
VERBS = _split(_VERBS, None)
LABELS = _split(_LABELS, "|")
TONGUES = _split(_TONGUES, "|")
CODE = _split(_CODE, "|")

NAMES = _split(
    """
Anna Ben Clara David Emma Felix Greta Hannah Ivan Julia Karl Laura Marco Nina Oscar Paula Quentin
Rosa Simon Tina Ursula Victor Wanda Xavier Yara Zoe Adam Bella Carlos Dora Elias Fiona Georg Helen
Igor Jane Kevin Lena Martin Nora Olivia Peter Rita Stefan Thomas Uma Vera William Yusuf Zara Ahmed
Aisha Akira Alice Amir Andrea Anton Arjun Astrid Bob Boris Brigitte Carmen Chen Chloe Daniel Diego
Elena Eric Fatima Francesca Frank Gabriel Hana Henry Ines Isabel Jack Jakob James Jasmin Jin John
Jonas Josef Kate Kenji Kofi Leila Leo Li Lucas Lucia Magda Maria Mark Mateo Maya Mei Mia Mohammed
Nadia Nils Noah Omar Pablo Pavel Priya Rahul Rachel Robert Ruth Sam Sara Sofia Sven Tariq Theo Tom
Viktor Yuki Yvonne Sasha Ravi Sanne Olga Petra Dmitri Chiara Luigi Giulia Pierre Marie Louis
Camille Jürgen Käthe Søren Agnes Edgar
""",
    None,
)
SYLLABLES = _split(
    """
ba be bi bo bu da de di do du fa fe fi fo ga go gu ha he hi ka ke ki ko ku la le li lo lu ma me mi
mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su ta te ti to tu va ve vi vo wa we wi
za ze zo bran cor dal fen gor hul jen kar lim mor nar pel quin rad sol tor ul ven wex yor zan stra
plo kri flu gle bro tha shi cha ton ster ing ble mond ric dorf ness ial ique ova ski ent ard
""",
    None,
)
OTHER_COUNTRIES = _split(
    """
Bolivia Paraguay Jordan Lebanon Syria Oman Yemen Laos Cambodia Myanmar Malaysia Singapore Mongolia
Kazakhstan Georgia Armenia Albania Kosovo Moldova Belarus Luxembourg Andorra Monaco Algeria Libya
Sudan Mali Niger Chad Cameroon Gabon Angola Zambia Uganda Rwanda Tanzania Mozambique Madagascar
Botswana Jamaica Haiti Panama Honduras Fiji Samoa Qatar Kuwait Israel Bangladesh Bhutan Afghanistan
Texas California Bavaria Scotland Catalonia Siberia Tasmania Ontario Sicily Atlantis Narnia Mars
Europe Africa Asia
""",
    None,
)
