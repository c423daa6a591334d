"""The built-in texts on which fidelity is measured when a recipe names none of its own.

An export or a quantized variant is compared with the original model on these texts. They are meant to
look like what reaches a model in production: one word or three hundred, many languages and scripts, praise
and complaint, news, law, medicine, recipes, code, numbers, emoji, capitals, and a few passages that are cut
by every usual limit (128 and 256 tokens), so that a lost truncation or padding setting shows.

Published figures refer to this list. Changing a text, or the order, changes them: raise the exporter epoch.
"""

from __future__ import annotations

from typing import Final

BUILT_IN: Final[tuple[str, ...]] = (
    # One word, several scripts.
    "Refund",
    "Merci",
    "谢谢",
    "こんにちは",
    "नमस्ते",
    # Customer reviews, praise and complaint.
    ("Best headphones I have ever owned. The battery lasts for days and the sound is warm without being muddy."),
    "Terrible. Arrived two weeks late, the box was crushed, and support never answered a single message.",
    (
        "The room was clean and the staff were kind, but the walls are so thin that we heard every word "
        "from next door until three in the morning."
    ),
    "Não recomendo a ninguém: o aplicativo trava sempre que tento pagar, e o reembolso ainda não chegou.",
    "Ich bin begeistert! Die Kaffeemaschine ist leise, schnell und in fünf Minuten gereinigt.",
    # News, politics, sport, business.
    (
        "The central bank left its main interest rate unchanged on Thursday, citing slower wage growth "
        "and a fall in energy prices."
    ),
    (
        "La sélection nationale s'est imposée trois buts à deux après prolongation, au terme d'un match "
        "que personne n'oubliera."
    ),
    ("El ayuntamiento aprobó ayer un plan para plantar doce mil árboles y cerrar al tráfico el casco antiguo."),
    "Правительство выделило дополнительные средства на ремонт мостов после весеннего паводка.",
    (
        "Il treno notturno tra Vienna e Roma tornerà in servizio a dicembre, con vagoni nuovi e "
        "biglietti a partire da quaranta euro."
    ),
    "정부는 내년부터 대중교통 요금을 동결하고 심야 버스 노선을 두 배로 늘리겠다고 발표했다.",
    "台風の接近に伴い、鉄道各社は明日の始発から運転を見合わせると発表しました。",
    "研究人员表示，新型电池在零下三十度的环境中仍能保持九成以上的容量。",
    # Science, medicine, law.
    "Η φωτοσύνθεση μετατρέπει το φως του ήλιου σε χημική ενέργεια που αποθηκεύεται στα φυτά.",
    "يجب تناول الدواء مرتين في اليوم بعد الأكل، ولا يجوز إيقافه دون استشارة الطبيب.",
    "בית המשפט קבע כי החוזה בטל מאחר שאחד הצדדים הסתיר מידע מהותי לפני החתימה.",
    "জলবায়ু পরিবর্তনের ফলে উপকূলীয় অঞ্চলে লবণাক্ততা বাড়ছে এবং কৃষকেরা নতুন জাতের ধান চাষ করছেন।",
    (
        "Patients with an allergy to penicillin should receive 500 mg azithromycin on day 1, then 250 mg "
        "once daily on days 2 to 5."
    ),
    (
        "The lessee shall indemnify and hold harmless the lessor against any claim arising out of the "
        "use of the premises, save where such claim results from the lessor's gross negligence."
    ),
    "Vesinäytteistä löytyi mikromuovia lähes jokaisesta järvestä, myös kaukana asutuksesta.",
    # Recipes, travel, everyday life.
    "ต้มน้ำซุปให้เดือด ใส่ตะไคร้ ข่า และใบมะกรูด แล้วจึงใส่กุ้งลงไปต้มจนสุก",
    "Phở ngon nhất khi nước dùng được ninh từ xương bò ít nhất tám tiếng với quế, hồi và gừng nướng.",
    "Soğanı zeytinyağında pembeleşene kadar kavurun, ardından salçayı ve bir su bardağı bulguru ekleyin.",
    "Zagnieć ciasto, odstaw je na godzinę w ciepłe miejsce, a potem uformuj małe bułeczki.",
    "De fiets staat achter het huis, maar de sleutel ligt nog bij de buren op de keukentafel.",
    "Tåget mot Göteborg är försenat med cirka fyrtio minuter på grund av ett signalfel.",
    "मेरी दादी हर सुबह बगीचे में टहलती हैं और शाम को बच्चों को पुरानी कहानियाँ सुनाती हैं।",
    "Besok pagi kami akan naik kapal ke pulau kecil itu untuk melihat penyu bertelur.",
    "A hídon átkelve megálltunk egy pillanatra, és néztük, hogyan olvad a jég a folyón.",
    "Treni u vonua, prandaj e humbëm lidhjen dhe e kaluam natën në stacion.",
    "Вчора ввечері ми дивилися на зорі з даху і рахували супутники.",
    "این کتاب را در کودکی خواندم و هنوز هم جمله‌های آغازش را از بر دارم.",
    "ქალაქის ძველ უბანში ყოველ კვირას იმართება ბაზრობა, სადაც ყველს, თაფლსა და ღვინოს ყიდიან.",
    "புதிய நூலகம் திறக்கப்பட்டதும் மாணவர்கள் மாலை வரை அங்கேயே படிக்கத் தொடங்கினர்.",
    # Code, numbers, symbols, case.
    (
        "def total(prices: list[float], rate: float = 0.19) -> float:\n    "
        '"""Sum with tax."""\n    '
        "return round(sum(prices) * (1 + rate), 2)"
    ),
    (
        "SELECT c.name, COUNT(*) AS n FROM orders o JOIN customers c ON c.id = o.customer_id WHERE "
        "o.total >= 99.95 GROUP BY c.name ORDER BY n DESC LIMIT 10;"
    ),
    ("Invoice 2024-00173: 3 × €1,249.50 + 19 % VAT = €4,460.72, due 31/12/2024, IBAN DE00 1234 5678 9012 3456 00"),
    "omg 😂😂 this cat is the BEST 🐈‍⬛❤️ 10/10 would pet again!!! #caturday",
    "...?! — «»; (((:-)))  @@  #$%^&*  […]",
    "WARNING: DO NOT OPEN THE CABINET WHILE THE MACHINE IS RUNNING. HIGH VOLTAGE INSIDE.",
    # Long enough to be cut at 256 and at 128 tokens.
    (
        "The lighthouse at the northern end of the island had been automatic for thirty years before "
        "anyone thought of selling it. Until then a boat went out twice a year with a technician, who "
        "changed the lamp, wiped the salt from the lenses, signed a sheet of paper in the kitchen and "
        "was home before dark. When the harbour authority finally put the building up for auction, it "
        "expected bids from hotel chains, or perhaps from a wealthy eccentric. The winning offer came "
        "instead from a retired schoolteacher and her brother, a plumber, who had grown up on the "
        "mainland within sight of the tower and who had counted its flashes through the bedroom window "
        "every night of their childhood. They spent the first winter fighting water. It came through the "
        "window frames, up through the cellar floor and, in one memorable gale, straight down the "
        "chimney, putting out the stove and driving them into the lamp room, where they sat wrapped in "
        "blankets and watched the waves break over the landing stage. In spring they found that the "
        "walls were sound, that the iron stairs needed nothing but paint, and that the well still gave "
        "sweet water. By the second summer there were beds for eight guests, a long table, a shelf of "
        "damp novels and a logbook in which visitors were asked to write down what they had seen rather "
        "than what they had felt. The entries are short and oddly moving: two porpoises, a red sail, fog "
        "until noon, a child who learned to whistle. The light itself still belongs to the authority, "
        "and still turns. The siblings are not allowed to touch it, but they have been given a telephone "
        "number to call should it ever stop. In eleven years they have dialled it only once, at four in "
        "the morning, and the voice that answered already knew. It was an old neighbour on the opposite "
        "shore, who had never lost the habit of counting."
    ),
    (
        "Sourdough looks like magic and is mostly patience. A starter is nothing but flour and water in "
        "which wild yeast and lactic acid bacteria have settled into a stable truce: the yeast produces "
        "gas, the bacteria produce acid, and the acid keeps almost everything else away. To begin, stir "
        "fifty grams of wholemeal rye into fifty grams of lukewarm water, cover the jar loosely, and "
        "leave it somewhere near twenty-five degrees. On each of the following days throw away half, "
        "feed what is left with the same amounts of flour and water, and wait. On the second or third "
        "day it will bubble wildly and smell of old cheese; this is a false dawn, caused by bacteria "
        "that will soon be driven out by the acid they helped to make. On the fourth day nothing seems "
        "to happen at all, and this is when most people give up. Keep going. By the end of the week the "
        "mixture should double within six hours of a meal and smell of apples and yoghurt. For one loaf, "
        "mix three hundred and fifty grams of water with one hundred grams of lively starter, add five "
        "hundred grams of strong flour, and let the shaggy dough rest for half an hour before working in "
        "ten grams of salt. Fold it four times during the next two hours, each time stretching a corner "
        "upwards and laying it over the middle. Leave it until it has grown by half and trembles when "
        "the bowl is shaken, then shape it, place it in a floured basket and put it in the refrigerator "
        "overnight. In the morning heat a heavy pot with its lid in the hottest oven you have. Turn the "
        "loaf out, slash it once with a razor, and bake it covered for twenty-five minutes and uncovered "
        "for another twenty, until the crust is the colour of chestnuts. Then comes the hardest part of "
        "all, which no recipe can do for you: let it cool for at least one hour before you cut it."
    ),
    (
        "Antibiotic resistance is often described as a race between medicine and evolution, but the "
        "picture misleads, because the two runners do not start from the same line. Genes that disable "
        "antibiotics are far older than the drugs we sell. They have been found in permafrost thirty "
        "thousand years old and in caves sealed off from the surface for millions of years, for the "
        "simple reason that most antibiotics were invented by microbes to fight other microbes. What "
        "people have added is scale. Every course of treatment, every medicated feed and every litre of "
        "untreated effluent from a factory tilts the balance towards the few cells that happen to carry "
        "a defence. Many of those defences travel on plasmids, small rings of DNA that pass between "
        "species with an ease that has no equal among animals; a harmless resident of the gut may hand "
        "its protection to a dangerous visitor during a single night. The consequences are measurable. "
        "Operations that depend on reliable prophylaxis, such as joint replacements and caesarean "
        "sections, become riskier, and infections that once needed a week of tablets need a month in "
        "hospital. Three remedies are usually named together. The first is restraint: prescribing fewer "
        "antibiotics, for shorter periods, on better evidence, and keeping the newest agents in reserve. "
        "The second is hygiene in the broadest sense, from clean water and vaccination to the "
        "unglamorous washing of hands, since an infection that never happens needs no drug. The third is "
        "the discovery of new compounds, which has slowed not for want of ideas but for want of "
        "customers: a medicine that must be used as rarely as possible earns very little. Several "
        "governments now experiment with subscriptions, paying a fixed sum each year for access to a "
        "drug regardless of how much of it is used, much as a town pays for a fire brigade and hopes "
        "that it will spend its days polishing the engine. Whether such schemes will be generous enough "
        "to bring companies back is not yet known."
    ),
)

GOLDEN_TEXTS: Final[tuple[int, ...]] = (0, 6, 17, 39)
"""Indices into BUILT_IN of the short texts whose outputs are kept in the manifest as golden examples."""

QUESTIONS: Final[tuple[str, ...]] = (
    "How do I bake bread with a crisp crust?",
    "Warum werden Antibiotika unwirksam?",
    "my headphones broke, can I get my money back",
)
"""What rerankers are asked about the longer built-in texts: a few passages answer, most do not."""

PAIRS: Final[tuple[tuple[str, ...], ...]] = tuple(
    (question, passage) for question in QUESTIONS for passage in sorted(BUILT_IN, key=len)[-30::2]
)
"""Questions and passages."""
