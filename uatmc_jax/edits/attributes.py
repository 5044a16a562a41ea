"""Words that say a fact of a product, which an edit must neither take away nor put in.

English; a shop's own brands and categories come from its catalogue.
"""

from collections.abc import Iterable, Mapping

_STOP_WORDS = """
a about above after all am an and any are as at be been before being below between both but by
can could did do does doing down during each few for from further had has have having he her
here hers him his how i if in into is it its just me more most my of off on once only or other
our out over own same she should so some such than that the their them then there these they
this those through to too under until up very was we were what when where which while who whom
why will with would you your
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
_LISTS = {
    "colours": "black white grey gray red blue green yellow orange purple pink brown beige navy "
    "olive teal cyan magenta maroon burgundy turquoise violet indigo gold golden silver bronze "
    "copper cream ivory khaki tan camel coral peach mint lavender lilac charcoal crimson scarlet "
    "emerald mustard rust nude multicolor multicolour light dark pale bright azure amber aqua "
    "fuchsia ruby sapphire jade rose salmon sand stone taupe wine colored coloured",
    "sizes": "xs xl xxl xxxl small medium large mini maxi midi long short tall petite wide narrow "
    "size sized big tiny huge giant little oversized knee ankle length sleeveless cm mm inch "
    "inches litre liter ml kg",
    "materials": "cotton linen wool merino silk polyester nylon leather suede denim velvet satin "
    "cashmere fleece canvas rubber plastic metal steel wood wooden bamboo viscose rayon lycra "
    "spandex elastane acrylic fur felt straw mesh lace tweed corduroy jersey stretch recycled "
    "organic vegan down feather glass ceramic iron aluminium aluminum brass titanium paper hemp "
    "jute knit knitted woven",
    "audiences": "men men's mens man women women's womens woman ladies lady girl girls girl's boy "
    "boys boy's kids kids' kid child children children's baby babies infant toddler toddlers teen "
    "teens adult adults unisex male female",
    "numbers": "one two three four five six seven eight nine ten eleven twelve dozen pair pairs "
    "pack set single double triple half hundred thousand first second third",
    "negations": "no not non none never without nor neither cannot free",
}


def protected_words(
    brands: Iterable[str] = (), categories: Iterable[str] = ()
) -> Mapping[str, str]:
    """{word in lower case: the attribute that it says}.

    Args:
      brands: names from a catalogue, of one or several words.
      categories: the same.
    """
    found = {word: name for name, words in _LISTS.items() for word in words.split()}
    for name, texts in (("brands", brands), ("categories", categories)):
        for text in texts:
            for word in text.lower().replace(">", " ").split():
                if word not in STOP_WORDS:
                    found.setdefault(word.strip(",.;"), name)
                    if name == "categories":
                        found.setdefault(_other_number(word), name)
    return found


def _other_number(word: str) -> str:
    """A plural's singular, and a singular's plural, as most English words have them."""
    return word[:-1] if word.endswith("s") else word + "s"


def attribute_of(word: str, protected: Mapping[str, str]) -> str | None:
    """What of a product the word says; None if nothing that is protected.

    >>> attribute_of("Blue", protected_words()), attribute_of("2-pack", protected_words())
    ('colours', 'numbers')
    """
    if any(character.isdigit() for character in word):
        return "numbers"
    low = word.lower().replace("’", "'")
    if low in protected:
        return protected[low]
    if low.endswith(("n't", "-free")):
        return "negations"
    return next((protected[part] for part in low.split("-") if part in protected), None)


# What sellers like to put in, and what says no fact; single words.
_SELLERS_WORDS = """
new best top great perfect premium quality popular favourite favorite stylish trendy modern
classic elegant beautiful lovely cute cool comfortable comfy cozy cosy casual everyday daily
essential original authentic genuine exclusive special limited deluxe luxury fashion fashionable
style look gift sale offer deal bestseller trending hot winter summer spring autumn season
seasonal outdoor indoor travel sport sports active fitness running hiking gym office work school
holiday party wedding home street beach weekend vintage retro urban simple basic smart chic
unique handmade durable lightweight soft warm breathable practical versatile easy ready fresh
fun happy real super ultra pro plus now today
"""
SELLERS_WORDS = tuple(_SELLERS_WORDS.split())
