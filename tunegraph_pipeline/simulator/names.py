"""Believable names for the simulated world: artists, songs, listeners and their playlists.

Here: word lists and the small grammar that combines them. A template holds slots in braces, each filled
with one word of the list of that name, so "{adj} {plural}" may become "Paper Lanterns". Which genre a name
is for comes in as its name in `genres`; every draw comes from the `Dice` that the caller keeps.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")

_SLOT = re.compile(r"\{(\w+)\}")
_CONTRACTIONS = (
    (re.compile(r"\b([Aa]) (?=[AEIOU])"), r"\1n "),
    (re.compile(r"\ba el "), "al "),
    (re.compile(r"\bde el "), "del "),
)


class Dice:
    """A stream of choices from one generator; the same generator gives the same choices."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._rolls: list[float] = []

    def roll(self) -> float:
        """The next number in [0, 1)."""
        if not self._rolls:
            self._rolls = self._generator.random(4096).tolist()
        return self._rolls.pop()

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, each as likely."""
        return options[int(self.roll() * len(options))]


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.replace("_", " ") for word in text.split())


_SHARED: Mapping[str, tuple[str, ...]] = {
    "adj": _words(
        "Paper Silver Quiet Golden Hollow Velvet Northern Electric Broken Distant Tender Crooked Faded Midnight "
        "Wild Slow Bright Lonely Burning Secret Little Second Last Empty Gentle Restless Blue Amber Scarlet "
        "Frozen Western Early Late Perfect Ordinary Borrowed Invisible Strange Sudden Careful Heavy Holy Weightless"
    ),
    "noun": _words(
        "Lantern Harbour River Window Mirror Summer Winter Ocean Garden Satellite Engine Shadow Signal Letter "
        "Avenue Highway Mountain Island Morning Sparrow Tiger Fever Thunder Station Carousel Compass Photograph "
        "Telephone Kingdom Heart Ghost Fire Rain Moon Sky Light Road Dream Diamond Feather Wire Orchard Balcony "
        "Ceiling Cathedral Aeroplane Stranger Parade Horizon Radio Pillow Umbrella Bicycle Coastline Promise"
    ),
    "plural": _words(
        "Lanterns Rivers Windows Mirrors Summers Oceans Gardens Satellites Engines Shadows Signals Letters Wolves "
        "Sparrows Tigers Foxes Strangers Ghosts Fires Dreams Diamonds Feathers Wires Orchards Balconies Cathedrals "
        "Aeroplanes Horizons Radios Promises Neighbours Secrets Flowers Hands Eyes Bones Stars Streets Sundays "
        "Cousins Weekends Postcards Fireflies Palms Swimmers Travellers Arrows Colours"
    ),
    "mass": _words(
        "Love Gold Rain Time Trouble Silence Gravity Honey Smoke Snow Water Glass Sugar Dust Thunder Sleep "
        "Sunlight Heaven Money Salt Paradise Daylight Mercy Memory Distance Patience Neon Weather"
    ),
    "place": _words(
        "Lisbon Brighton Tucson Marseille Havana Oslo Memphis Valparaíso Glasgow Kyoto Tangier Trieste Savannah "
        "Montreal Cartagena Antwerp Galway Busan Odessa Nairobi Porto El_Paso Sheffield Reykjavík Palermo "
        "Baltimore Bergen Naples Santa_Fe Rotterdam"
    ),
    "name": _words(
        "Marisol Caroline June Eleanor Delilah Ruby Annie Josephine Clementine Rosie Vera Daniel Henry Sam Elena "
        "Nadia Leo Frankie Marlene Agnes Theo Isadora Camille Johnny Esther Lucille Maggie Sofia Tommy Violet"
    ),
    "month": _words("January February March April May June July August September October November December"),
    "day": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
    "ger": _words(
        "Waiting_for Running_from Thinking_About Looking_for Falling_into Driving_Through Dancing_with Dreaming_of "
        "Singing_to Talking_to Leaving Chasing Learning Counting Holding Losing Finding Missing Following Breaking"
    ),
    "thing": _words(
        "You the_Rain the_Moon the_Light the_Radio Strangers Home Summer the_River Somebody the_Morning Shadows "
        "the_Sea Nobody the_Fire the_Quiet a_Feeling the_City My_Friends the_Weekend Heaven a_Ghost the_Stars"
    ),
    "verb": _words(
        "Leave Call Wake Hold Love Find Follow Tell Break Carry Forget Believe Save Take Teach Need Want Meet"
    ),
    "past": _words(
        "Left Found Lost Saw Heard Followed Kissed Burned Kept Broke Knew Loved Forgot Stole Missed Called"
    ),
    "num": _words("Two Three Four Five Six Seven Eight Nine Ten Eleven Twelve"),
    "num2": _words("17 18 19 22 29 3 4 5 7 8 9 11 12 24 33 41 64 72 88 99 101 303 808"),
    "given": _words(
        "Mara Ines Theo Jonah Noor Lucia Callum Ada Rafa Imani Soren Yuki Dele Freya Omar Bea Caspian Anouk Tomas "
        "Nia Ezra Leila Marcus Petra Kofi Selma Hugo Wren Amara Felix Joni Silas Thea Milo Zadie Bruno Elsie Kaito "
        "Rosalind Idris Greta Malik Orla Emil Saoirse Dario Tamsin Levi Paloma Augie"
    ),
    "family": _words(
        "Holloway Varga Okafor Lindqvist Marlowe Castellane Whitlock Ferreira Nakadai Abernathy Osei Brandt Delacroix "
        "Kessler Moreau Ashdown Villanueva Thorne Adeyemi Sandoval Rask Pemberton Haverly Quill Navarro Estrand "
        "Mbeki Carraway Winslow Tremaine Okoro Salcedo Bellweather Hartigan Lune Vesterholt Ibarra Penrose Dray "
        "Fontaine Ambrose Calloway Sorrell Mercado Yarrow Stroud Kipling Achterberg Nightingale Rosewood"
    ),
    "the": _words("the_Sun the_Sea the_Wolf the_Pines the_Tide the_Moon the_Machine the_Hours the_Birds"),
}

# Titles that any genre of songs may have.
_ANY_SONG = (
    "{noun}", "{plural}", "{mass}", "{ger} {thing}", "{adj} {noun}", "{adj} {plural}", "Somewhere in {place}",
    "{num} {plural}", "I {past} the {noun}", "After the {noun}", "Until {day}", "Almost {mass}", "Nobody's {noun}",
    "How to {verb} a {noun}", "Between {plural}", "Under the {noun}", "{noun} in the {noun}", "{plural} & {plural}",
    "{verb} the {noun}", "What the {noun} Knows", "{adj} Enough", "{month} Again", "Too Many {plural}", "{name}",
    "A {noun} for {name}", "{mass} Over {place}", "Since {day}", "Without {mass}", "{place}", "All the {adj} {plural}",
)  # fmt: skip
_ALL_THEIR_OWN = {"classical", "techno", "ambient", "latin", "hip-hop", "metal"}

# What each genre adds; a word of its own is twice as likely as a shared one.
# fmt: off
_OWN: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "pop": {
        "noun": _words(
            "Crush Lipstick Mirrorball Heartbeat Polaroid Butterfly Bubblegum Midnight Sugar Magnet"
        ),
        "adj": _words("Cherry Neon Pretty Sweet Dizzy Sparkling Plastic Honest"),
        "artist": _words(
            "{given} {given}_{family} {given}_{family} {adj}_{plural} {name}_&_{the} {noun} {given}_{noun}"
        ),
        "song": (
            "{noun}", "{adj} {noun}", "{verb} Me", "{verb} Me, {verb} Me", "Don't {verb} Me Now",
            "{ger} {thing}", "If I {verb} You", "{adj}", "Not Your {noun}", "One More {day}", "Ex",
            "Like a {noun}", "{mass}",
        ),
    },
    "rock": {
        "noun": _words("Gasoline Motel Arcade Cigarette Crow Television Basement Machine Riot Wreck Wolf"),
        "adj": _words("Dirty Rusted Black Cold Chrome Lucky Loud Sick"),
        "artist": _words(
            "The_{plural} The_{plural} The_{adj}_{plural} {adj}_{noun} {noun}_{noun} {place}_{plural} {given}_{family}"
        ),
        "song": (
            "{noun}", "{adj} {noun}", "{adj} {plural}", "The {noun}", "{ger} {thing}", "{noun} {num2}",
            "I {past} {thing}", "{verb} It Down", "Back to {place}", "{plural} and {plural}",
            "No More {plural}", "Down on {mass}", "Hey, {name}",
        ),
    },
    "hip-hop": {
        "noun": _words(
            "Ledger Corner Block Chain Bodega Hustle Throne Bassline Cypher Pager Crown Rooftop Receipt"
        ),
        "plural": _words("Sneakers Receipts Bricks Chains Corners Rivals Cousins Cold_Cuts Crowns Dollars"),
        "adj": _words("Young Big Foreign Solid Lavish Raw Major Icy"),
        "mass": _words("Pressure Paper Ice Drip Sauce Loyalty Static Motion"),
        "artist": _words(
            "{adj}_{noun} Yung_{noun} Lil_{noun} {given}_{noun} {noun}_{num2} {given}_the_{noun} MC_{family} "
            "Kid_{noun} {adj}_{given} {mass}_{given} {family}"
        ),
        "song": (
            "{mass}", "{mass} Talk", "{noun} Freestyle", "{num2} {plural}", "No {plural}",
            "{plural} & {mass}", "{place} Nights", "{adj} {mass}", "Ask {name}", "{mass} on Me", "{noun}",
            "{day} Night", "Intro", "Came Up from {place}", "All {mass}", "Can't {verb} Me",
            "{plural} in the Trunk",
        ),
    },
    "r&b": {
        "noun": _words("Candle Silk Perfume Skin Waterfall Body Texture Whisper Voicemail Afterglow"),
        "adj": _words("Slow Soft Bare Lavender Deep Warm Sweet After-Hours"),
        "mass": _words("Honey Skin Patience Silk Grace Closeness"),
        "artist": _words(
            "{given} {given}_{family} {given}_{mass} {mass} {family} {given}_{family} {adj}_{given} {name}_{mass}"
        ),
        "song": (
            "{mass}", "{adj} {mass}", "{verb} Me Slow", "{num} A.M.", "{noun}", "{adj} {noun}",
            "Call Me {day}", "{ger} You", "If You {verb} Me", "{name}'s Interlude", "On My {noun}",
            "Used to {verb} You", "Stay (for {mass})",
        ),
    },
    "electronic": {
        "noun": _words("Strobe Pulse Prism Terrace Circuit Mirage Filter Sequence Dancefloor Sunrise Loop"),
        "adj": _words("Lucid Liquid Analog Solar Deep Infinite Balearic Tropic"),
        "artist": _words(
            "{adj}_{noun} {noun} {noun}_{num2} {family} {given}_{family} {place}_Club DJ_{given} {mass}_Unit"
        ),
        "song": (
            "{noun}", "{adj} {noun}", "{adj} {mass}", "{verb} the {noun}", "{place} After Dark",
            "{ger} {thing}", "Give Me {mass}", "{noun} Theme", "One {noun}", "All Night {noun}", "{mass}",
            "{verb} You Tonight",
        ),
    },
    "techno": {
        "noun": _words(
            "Module Sector Relay Vector Concrete Turbine Axis Voltage Lattice Membrane Protocol Reactor Grid"
        ),
        "adj": _words("Null Static Obsidian Subterranean Parallel Grey Industrial Modular"),
        "artist": _words(
            "{family} {noun} {noun}_{num2} {adj}_{noun} {given}_{family} {noun}_{noun} {mass}_Index"
        ),
        "song": (
            "{noun}", "{noun} {num2}", "{adj} {noun}", "{adj} State", "{noun} Loss", "{place} {num2}:00",
            "{noun} / {noun}", "{adj} Mass", "Untitled {num2}", "{noun} Function", "{mass} Field",
        ),
    },
    "ambient": {
        "noun": _words(
            "Tundra Estuary Fog Glacier Lichen Moraine Aurora Reed Current Meridian Threshold Dusk"
        ),
        "plural": _words("Clouds Tides Reeds Currents Stones Particles Fields"),
        "mass": _words("Mist Breath Lichen Drift Stillness Moss Vapour Frost"),
        "adj": _words("Pale Still Tidal Glacial Luminous Submerged"),
        "artist": _words(
            "{adj}_{noun} {family} {noun} {mass}_&_{mass} {given}_{family} {noun}_Archive {adj}_{plural}"
        ),
        "song": (
            "{noun}", "{mass}", "{adj} {noun}", "{month}, {adj} {mass}", "{noun} Study",
            "Of {mass} and {mass}", "{num} {plural}", "For {name}, Asleep", "{noun} (Part {num})",
            "{adj} {mass}", "Above the {noun}",
        ),
    },
    "lo-fi": {
        "noun": _words(
            "Notebook Teacup Raincoat Kettle Bus_Stop Ramen Cassette Blanket Library Bakery Houseplant Sidewalk"
        ),
        "adj": _words("Sleepy Cosy Rainy Dusty Hazy Lazy Lukewarm Foggy"),
        "plural": _words("Pancakes Raindrops Slippers Notebooks Dumplings Crayons Cassettes"),
        "mass": _words("Coffee Matcha Cocoa Drizzle Homework Cinnamon Oatmilk"),
        "artist": _words(
            "{adj}_{noun} {given} {mass}_{plural} {adj}_{given} {noun}_Club {mass}.wav {noun}_&_{noun} {given}'s_{noun} "
            "DJ_{noun} {adj}_{plural} {given}_{noun}"
        ),
        "song": (
            "{noun}", "{adj} {day}", "{mass} for {num}", "{adj} {noun}", "{plural}", "{month} {mass}",
            "{mass} & {mass}", "{place}, {num} A.M.", "{ger} {thing}", "{name}'s {noun}",
            "{mass} at the {noun}", "Before the {noun}",
        ),
    },
    "metal": {
        "noun": _words(
            "Throne Wraith Abyss Serpent Pyre Crypt Oath Maw Titan Eclipse Plague Monolith Ruin Leviathan"
        ),
        "plural": _words("Ravens Thorns Ruins Martyrs Serpents Graves Oaths Wraiths Colossi"),
        "mass": _words("Ash Blood Iron Ruin Bone Wrath Sorrow Ember"),
        "adj": _words("Black Pale Eternal Rotting Blighted Iron Nameless Drowned Ashen"),
        "artist": _words(
            "{noun} {adj}_{noun} {mass}_{noun} {plural}_of_{mass} {noun}fall {mass}born {adj}_{plural} {noun}_of_{place}"
        ),
        "song": (
            "{plural} of {mass}", "The {adj} {noun}", "{noun}", "{mass} and {mass}", "{adj} {mass}",
            "Beneath the {noun}", "Crown of {plural}", "{num} {plural}", "{noun}bringer",
            "The {noun} and the {noun}", "To {verb} the {noun}", "An Oath in {mass}",
        ),
    },
    "punk": {
        "noun": _words(
            "Detention Landlord Skateboard Curfew Suburb Boredom Riot Bus_Lane Paycheck Dropout Denim"
        ),
        "plural": _words("Cops Landlords Dropouts Brats Bad_Habits Scabs Rejects Apologies"),
        "adj": _words("Cheap Wasted Snotty Bitter Nervous Stupid Public"),
        "artist": _words(
            "The_{plural} {adj}_{plural} {noun} {adj}_{noun} {name}_and_the_{plural} {place}_{plural} {num}_{plural}"
        ),
        "song": (
            "{noun}", "I Hate {place}", "{adj} {noun}", "{name} Says No", "{verb} Your {noun}",
            "Dead {plural}", "{plural}!", "Sorry, {name}", "Summer of {num2}", "No {noun}, No {noun}",
            "{adj}", "{num} Minutes to {place}", "My {noun} Is on Fire",
        ),
    },
    "folk": {
        "noun": _words(
            "Hollow Bramble Meadow Kettle Cedar Heron Quarry Cradle Wren Barn Well Hearth Thistle"
        ),
        "plural": _words("Pines Herons Brambles Hills Starlings Thistles Crows"),
        "mass": _words("Clover Rye Timber Linen Barley Lilac"),
        "adj": _words("Wooden Mossy Plain Winter Kindly Weary Oaken"),
        "artist": _words(
            "{given}_{family} {given}_{family} {given}_&_the_{plural} {mass}_&_{noun} The_{family}_{plural} {noun}_&_{noun} "
            "{adj}_{plural} {given}_and_{given}"
        ),
        "song": (
            "{noun} Song", "{adj} {noun}", "{name}", "The {noun} and the {noun}", "{month}",
            "Letter to {name}", "{mass}", "{ger} {thing}", "Where the {plural} Go", "{adj} {mass}",
            "Old {place} Road", "{plural} in {month}", "The Ballad of {given} {family}", "I {past} {thing}",
        ),
    },
    "country": {
        "noun": _words(
            "Tailgate Porch Dirt_Road Whiskey Saddle County_Line Truck Jukebox Church Mama Boot Levee"
        ),
        "plural": _words("Boots Backroads Bootleggers Cowboys Horses Tail_Lights Front_Porches"),
        "mass": _words("Bourbon Whiskey Denim Gravel Moonshine Mud"),
        "adj": _words("Dusty Southern Lonesome Neon Small-Town Old"),
        "place": _words("Abilene Tulsa Shreveport Amarillo Knoxville Laredo Cheyenne Lubbock"),
        "artist": _words(
            "{given}_{family} {given}_{family} {given}_{family} {given}_{name}_{family} {adj}_{plural} The_{place}_{plural} "
            "{family}_&_{family}"
        ),
        "song": (
            "{mass} and {mass}", "{place} Line", "Daddy's {noun}", "{adj} {noun}", "{name} from {place}",
            "{noun} Prayer", "{plural} on {day}", "She {past} the {noun}", "{ger} {thing}", "Ain't No {noun}",
            "{place}", "{num} {plural} to {place}", "{mass} on My {noun}",
        ),
    },
    "jazz": {
        "noun": _words(
            "Waltz Sonnet Alley Sketch Prelude Saxophone Boulevard Stairwell Vermouth Interval Matinee"
        ),
        "adj": _words("Blue Oblique Smoky Cool Modal Autumnal"),
        "mass": _words("Brass Vermouth Ink Ivory Velvet"),
        "artist": _words(
            "{given}_{family} {given}_{family}_Trio {given}_{family}_Quartet {family}_{family}_Duo The_{given}_{family}_Quintet "
            "{given}_{family} {adj}_{noun}_Ensemble"
        ),
        "song": (
            "Blues for {name}", "{name}'s Waltz", "{adj} {noun}", "{place} Sketches", "{noun} in {mass}",
            "{month} in {place}", "The {adj} {noun}", "{num} for {name}", "Sonnet to {thing}", "{noun}",
            "One for {given}", "{mass}", "Minor {noun}", "A {noun} Before {day}",
        ),
    },
    "soul & funk": {
        "noun": _words(
            "Groove Boogie Strut Jukebox Backbeat Platform Mirrorball Brother Sister Soulshake Cadillac"
        ),
        "plural": _words("Brothers Sisters Disciples Commodities Sensations Ministers"),
        "mass": _words("Soul Funk Sugar Rhythm Sunshine Gravy"),
        "adj": _words("Sweet Mighty Funky Uptown Golden"),
        "artist": _words(
            "The_{adj}_{plural} {given}_{family} {given}_&_the_{plural} {family}_{plural} {mass}_Ministry {place}_{mass}_Revue "
            "Sister_{given}_{family}"
        ),
        "song": (
            "{verb} Your {mass}", "{mass} Strut", "Get on the {noun}", "{adj} {mass}", "Keep {ger} Me",
            "{mass} (Part {num})", "Ain't That {mass}", "{noun} Fever", "{day} Night {noun}",
            "Shake It, {name}", "{mass} Is Coming", "{noun}", "Take Me to {place}",
        ),
    },
    "latin": {
        "given": _words(
            "Mateo Valeria Joaquín Ximena Thiago Renata Luisito Catalina Nico Yadira Rubén Maribel Iván Xiomara"
        ),
        "family": _words(
            "Arroyo Quiñones Zamudio Bermeo Caicedo Luján Palomares Arizmendi Montilla Barragán Tavares Yáñez"
        ),
        "la": _words(
            "la_Luna el_Mar la_Noche el_Barrio la_Playa el_Fuego la_Calle el_Verano tu_Boca mi_Tierra la_Lluvia el_Cielo "
            "tus_Ojos la_Madrugada el_Olvido mi_Gente"
        ),
        "es": _words(
            "Candela Veneno Azúcar Corazón Mentira Tormenta Despedida Locura Canela Medianoche Promesas Suerte Perfume "
            "Relámpago Espejismo Bandida Marea Gasolinera Hechizo Cicatriz"
        ),
        "esverb": _words("Olvido Quiero Busco Espero Canto Lloro Llamo Pierdo Extraño"),
        "artist": _words(
            "{given} {given}_{family} {given}_{family} El_{given} Los_{family} {given}_y_{given} La_{es} {es}_{num2} Grupo_{es} "
            "DJ_{given}"
        ),
        "song": (
            "{es}", "{es} y {es}", "Bajo {la}", "Sin {es}", "Te {esverb}", "{la}", "Otra {es}", "Dile a {la}",
            "Hasta {la}", "{es} en {place}", "Cerca de {la}", "No Te {esverb}", "{name}", "Solo {es}",
            "Pa' {la}", "Desde {la}",
        ),
    },
    "afrobeats": {
        "given": _words(
            "Temi Kwame Zola Bayo Ayo Sade-Ann Ekow Lerato Thabo Simi-Joy Dayo Nandi Femi-J Abena Sipho Chidi"
        ),
        "family": _words(
            "Okonjo Mensah-Bright Dlamini Adewale Boateng Ndlovu Balogun Asante Nwosu Khumalo Eze Sowande"
        ),
        "noun": _words("Lagoon Danfo Oga Rhythm Baby Mango Queen Palmwine Generator Body Highlife"),
        "mass": _words("Palmwine Vibes Gold Body Enjoyment Sunlight Pepper Gbedu"),
        "place": _words("Lagos Accra Ibadan Durban Kumasi Soweto Abuja Lomé Cotonou"),
        "artist": _words(
            "{given} {given}_{family} {given}_{mass} Big_{given} {given}_{num2} DJ_{given} {family}_Kings {place}_{mass} "
            "{given}_x_{given}"
        ),
        "song": (
            "{mass}", "{name}", "{place} to {place}", "Oh {name}", "{noun} (Sweet {mass})", "{mass} Dey",
            "My {noun}", "{place} Sunrise", "Small {mass}", "Shine, {name}", "No Dey {verb} Me",
            "Dance for {mass}", "{noun}", "Omo {place}",
        ),
    },
    "reggae": {
        "noun": _words("Zion Dubplate Lion Sound_System Riddim Mountain Prophet Babylon Gully Steppers"),
        "plural": _words("Prophets Steppers Lions Elders Dubplates Wailers-in-Exile Roots"),
        "mass": _words("Dub Herb Roots Fire Rice Peas Unity"),
        "adj": _words("Righteous Upright Natural Conscious Humble Mighty"),
        "place": _words("Kingston Negril Montego Brixton Port_Antonio Bridgetown"),
        "artist": _words(
            "{adj}_{noun} {given}_{noun} Jah_{family} The_{place}_{plural} {given}_{family} {adj}_{plural} King_{given} "
            "Sister_{given} {noun}_{family}"
        ),
        "song": (
            "{mass} in {place}", "{adj} {noun}", "{noun} Dub", "{verb} Them", "{mass} & {mass}",
            "{place} Rock", "{adj} {mass}", "{noun} Calling", "Version {num2}", "Tell {place}",
            "{noun} a Come", "Burn Down {noun}", "{mass} Time", "No {noun} Tonight",
        ),
    },
    "classical": {
        "family": _words(
            "Halvorsen Leclairmont Dubrovnik Szabolcsi Einhorn Castellucci Wojnarowska Tveit-Larsen Aldermann"
        ),
        "noun": _words("Elegy Barcarolle Reverie Lullaby Procession Vigil Canticle Garden Ballad"),
        "form": _words(
            "Nocturne Prelude Étude Intermezzo Impromptu Sonatina Waltz Fantasia Arabesque Bagatelle Sarabande Romance"
        ),
        "tempo": _words(
            "Allegretto Andante_con_moto Lento Adagio Largo Vivace Moderato Allegro_non_troppo Grave Presto Sostenuto"
        ),
        "roman": _words("I II III IV V"),
        "artist": _words(
            "{given}_{family} {given}_{family} {family}_Quartet {place}_Chamber_Players {family}_Ensemble "
            "{place}_Sinfonietta {given}_{family} Trio_{family}"
        ),
        "song": (
            "{form} No. {num2}", "{form} No. {num2}: {tempo}", "{noun} for {name}", "The {adj} {noun}",
            "{place} Suite: {roman}. {tempo}", "{form} for {month}", "{noun}",
            "String Quartet No. {num2}: {roman}. {tempo}", "{adj} {noun}", "{num} Miniatures: {roman}",
            "Leaving {place}", "{name}'s Theme",
        ),
    },
}
# fmt: on

LEXICON: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    genre: {slot: (*_SHARED.get(slot, ()), *own.get(slot, ()) * 2) for slot in (*_SHARED, *own)}
    for genre, own in _OWN.items()
}
"""For each genre the words that a slot may take."""

# Scenes that write their titles their own way.
_LOWER = {"bedroom pop", "lo-fi beats", "tape loops", "cloud rap", "future garage", "field recordings"}
_UPPER = {"hard techno", "hardcore"}

_HANDLE = (
    "{given}.{family}", "{given}.{family}", "{given}.{family}{nn}", "{given}.{family}{nn}", "{given}{nn}", "{given}_{adj}",
    "{adj}{noun}{nn}", "{given}{family}", "{given}{family}{nn}", "{noun}.{given}", "{given}_{family}",
)  # fmt: skip
_FIRST = _words(
    "mira jonas aisha lukas priya mateo chloe kenji fatima oscar hanna diego nora samir elif ruben tessa yusuf maya "
    "viktor lena arjun clara emeka sofie rafael ingrid kwesi alba dmitri zoe hassan julie marco anya tariq bella soren "
    "nina pablo ewa theo leila ivan carmen noah mei andre stella omar lucy tomasz iris femi greta luca dana hiro paula "
    "isaac amelie jamal petra simon rosa nikhil ella bruno sara finn layla miguel vera tom alina gus naomi erik joana "
    "rami kate leon zara max olivia pedro thandi ben yara felix ruth jo kai marta nils ada sven lola ari eva hugo"
)
_LAST = _words(
    "holloway lindgren okoye ferrari tanaka moreno schmidt novak haddad olsen rivera kaur dubois mensah keller silva "
    "petrov nguyen byrne costa yilmaz weber castro larsen ahmed fischer romano park santos kowalski murphy chen ibrahim "
    "vega jansen bauer lopez hall sharma berg walsh reyes koch ali martin dias horvat cohen quinn sato meyer singh ross "
    "aydin luna wolf bell farah ortiz lund grant popov rossi hughes amari stone vidal frost kim mills"
)
_PLAYLIST = (
    "{scene}", "{scene} {noun}", "{mood} {scene}", "{scene} for {activity}", "{activity}", "{mood} {daypart}", "{daypart} {scene}",
    "{scene} vol. {n}", "{mood}", "best of {scene}", "{month} {scene}", "{scene} & chill", "deep {scene}", "my {scene}",
    "{activity} ({mood})", "new to me: {scene}",
)  # fmt: skip
_PLAYLIST_WORDS: Mapping[str, tuple[str, ...]] = {
    "noun": _words("essentials crate rabbit_hole favourites only keepers hour gems archive"),
    "mood": _words(
        "slow soft loud sunny rainy nostalgic restless happy heartbroken dreamy heavy easy cosy late-night"
    ),
    "activity": _words(
        "cooking running the_commute studying long_drives cleaning_the_flat the_gym walking_home dinner_with_friends "
        "falling_asleep getting_ready deep_work gardening the_train"
    ),
    "daypart": _words("mornings evenings sundays fridays nights 2am after_work weekends"),
    "n": _words("1 2 3 4 5"),
    "month": _words("january march april may june july august september october november"),
}


class Songbook:
    """The titles an artist has used, so that none comes twice and no pattern too often."""

    def __init__(self) -> None:
        self.titles: set[str] = set()
        self.patterns: Counter[str] = Counter()


def _fill(template: str, words: Mapping[str, tuple[str, ...]], dice: Dice) -> str:
    used: set[str] = set()

    def word(slot: re.Match[str]) -> str:
        chosen = dice.choice(words[slot[1]])
        for _ in range(4):  # nobody sings "Rain and Rain", or is called Secret Secrets
            if chosen[:4] not in used:
                break
            chosen = dice.choice(words[slot[1]])
        used.add(chosen[:4])
        return chosen

    return _SLOT.sub(word, template)


def artist_name(genre: str, dice: Dice, taken: set[str]) -> str:
    """A name for an artist of ``genre`` that is not in ``taken``, to which it is added."""
    words = LEXICON[genre]
    name = _fill(dice.choice(words["artist"]), words, dice)
    while name.casefold() in taken:
        name = _fill(dice.choice(words["artist"]), words, dice)
        if name.casefold() in taken and dice.roll() < 0.2:
            name = f"{name} {dice.choice(('II', 'Collective', 'Sound', 'Project', 'Club'))}"
    taken.add(name.casefold())
    return name


def song_title(genre: str, scene: str, dice: Dice, book: Songbook) -> str:
    """A title for a song of a scene that the artist has not used yet; it is added to their book."""
    words = LEXICON[genre]
    patterns = words["song"] if genre in _ALL_THEIR_OWN else (*words["song"], *_ANY_SONG)
    tries = 0
    while True:
        pattern = min((dice.choice(patterns) for _ in range(4)), key=book.patterns.__getitem__)
        title = _polish(_fill(pattern, words, dice))
        if tries >= 20:
            title = f"{title} {dice.choice(words['num2'])}"
        if title.casefold() not in book.titles:
            break
        tries += 1
    book.titles.add(title.casefold())
    book.patterns[pattern] += 1
    if scene in _LOWER:
        return title.lower()
    return title.upper() if scene in _UPPER else title


def _polish(title: str) -> str:
    for wrong, right in _CONTRACTIONS:
        title = wrong.sub(right, title)
    return title[:1].upper() + title[1:]


def user_handle(dice: Dice, taken: set[str]) -> str:
    """A login name such as ``mira.holloway42`` that is not in ``taken``, to which it is added."""
    words = {
        "given": _FIRST,
        "family": _LAST,
        "adj": tuple(word.lower() for word in _SHARED["adj"]),
        "noun": tuple(word.lower() for word in _SHARED["noun"]),
        "nn": tuple(str(number) for number in range(2, 100)),
    }
    handle = _fill(dice.choice(_HANDLE), words, dice)
    while handle in taken:
        handle = f"{handle}{int(dice.roll() * 10)}"
    taken.add(handle)
    return handle


def playlist_name(scene: str, dice: Dice) -> str:
    """What a listener might call a playlist of songs of a scene."""
    return _fill(dice.choice(_PLAYLIST), {**_PLAYLIST_WORDS, "scene": (scene,)}, dice)
