"""Words without torch: texts cut and put together, constraints, and the search by brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from uatmc_jax.edits.attributes import STOP_WORDS, attribute_of, protected_words
from uatmc_jax.edits.constraints import (
    broken,
    max_words_perturbed,
    protected_attributes,
    repeat_modification,
    stopword_modification,
    usable,
    word_embedding_distance,
    wordnet_synonym,
)
from uatmc_jax.edits.pixels import Seen, rank
from uatmc_jax.edits.synonyms import FILES, read_synonyms, synonyms_within
from uatmc_jax.edits.wording import (
    changed,
    insert,
    marked,
    new_words,
    parse,
    span_of,
    substitute,
    text_of,
)
from uatmc_jax.edits.words import Verified, Words, WordSearch, neighbours, search_words
from uatmc_jax.errors import InputError
from uatmc_jax.preparation.twins import Saliency, Vocabulary

TITLE = "men's slim dress for work, navy blue (2 pack)"
PROTECTED = protected_words(brands=["Möbel & Co"], categories=["Dresses > Shirt dress"])
WORDS = ["new", "neat", "smart", "blue", "the", "cosy"]


@given(st.text(max_size=60))
def test_a_text_is_put_together_again(text):
    wording = parse(text)
    assert text_of(wording) == text
    for place, word in enumerate(wording.words):
        start, end = span_of(wording, place)
        assert text[start:end] == word


EDITS = st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.sampled_from(WORDS)), max_size=4)


def edited(edits):
    wording = parse(TITLE)
    for put_in, place, word in edits:
        n = len(wording.words)
        if put_in:
            wording = insert(wording, place % (n + 1), word)
        else:
            wording = substitute(wording, place % n, word)
    return wording


@given(EDITS)
def test_constraints_say_what_they_are_called(edits):
    original, now = parse(TITLE), edited(edits)
    old, words = list(original.words), list(now.words)
    new = new_words(original, now)
    kept = [w for place, w in enumerate(words) if place not in changed(original, now)]
    assert max_words_perturbed(2).allows(original, now) == (len(new) <= 2)
    facts = [w for w in old if attribute_of(w, PROTECTED)]
    assert facts == ["men's", "dress", "navy", "blue", "2", "pack"]
    keeps = [w.lower() for w in words if attribute_of(w, PROTECTED)] == facts
    assert protected_attributes(PROTECTED).allows(original, now) == keeps
    if not keeps:  # one went, or one came
        assert any(attribute_of(w, PROTECTED) for w in new) or any(w not in kept for w in facts)
    if stopword_modification().allows(original, now):
        assert "for" in kept and "the" not in words
    if repeat_modification().allows(original, now):
        assert all(words.count(w) == 1 for w in new)
    assert marked(original, now).count("[") == len(new)
    assert not changed(original, original)


def test_words_that_say_a_fact():
    for word, name in {
        "Blue": "colours", "XL": "sizes", "leather": "materials", "women’s": "audiences",
        "42": "numbers", "10-pack": "numbers", "non-slip": "negations", "don't": "negations",
        "möbel": "brands", "dresses": "categories", "dress": "categories",
    }.items():  # fmt: skip
        assert attribute_of(word, PROTECTED) == name
    assert attribute_of("stylish", PROTECTED) is None
    np.testing.assert_array_equal(usable(WORDS, PROTECTED), [True, True, True, False, False, True])
    assert not any(attribute_of(w, protected_words()) == "brands" for w in STOP_WORDS)


def test_replaced_words_are_near():
    vectors = {"slim": np.array([1.0, 0]), "neat": np.array([0.8, 0.6]), "cosy": np.array([0, 1.0])}
    rule, slim = word_embedding_distance(vectors, 0.7), parse("slim new dress")
    assert rule.allows(slim, substitute(slim, 0, "neat"))
    assert not rule.allows(slim, substitute(slim, 0, "cosy"))
    assert not rule.allows(slim, substitute(slim, 1, "neat"))  # "new" has no vector
    assert rule.allows(slim, insert(slim, 0, "cosy"))


def test_capitals_are_kept():
    assert text_of(substitute(parse("SLIM Dress"), 0, "neat")) == "NEAT Dress"
    assert text_of(substitute(parse("Slim Dress"), 0, "neat")) == "Neat Dress"


def linear_encoder(seed=0):
    """A text's worth is the sum of its words' worths, so the gradient is exact."""
    rng = np.random.default_rng(seed)
    vocabulary = Vocabulary(
        sorted([*WORDS, "slim", "dress", "work", "best"]), rng.normal(size=(10, 3))
    )
    places = {word: place for place, word in enumerate(vocabulary.words)}
    direction = rng.normal(size=3)

    def vector(word):
        return vocabulary.vectors[places[word]] if word in places else np.zeros(3)

    def worth(text):
        value = float(sum(vector(word) for word in parse(text).words) @ direction)
        return Verified(Seen(round(value, 1), value), 1.0)

    def slopes(texts):
        found = []
        for text in texts:
            wording = parse(text)
            spans = np.array([span_of(wording, n) for n in range(len(wording.words))])
            vectors = np.array([vector(word) for word in wording.words])
            found.append(Saliency(spans, np.tile(direction, (len(vectors), 1)), vectors))
        return found

    return vocabulary, slopes, lambda texts: list(map(worth, texts))


@pytest.mark.parametrize("operation", ["substitution", "insertion"])
@pytest.mark.parametrize("most", [1, 2])
def test_with_an_exact_gradient_the_search_is_the_brute_force(operation, most):
    vocabulary, slopes, verify = linear_encoder()
    allowed = usable(vocabulary.words, PROTECTED)
    words = Words(vocabulary, allowed, neighbours(vocabulary, allowed, -1.0), "MASK")
    rules = (
        max_words_perturbed(most),
        stopword_modification(),
        repeat_modification(),
        protected_attributes(PROTECTED),
    )
    original = parse("slim dress for work")
    found = search_words(original, operation, words, rules, WordSearch(most, 3, 60), slopes, verify)
    make = substitute if operation == "substitution" else insert
    frontier, best = [original], verify([text_of(original)])[0]
    for _ in range(most):
        nexts = [
            make(wording, place, word)
            for wording, word in itertools.product(frontier, vocabulary.words)
            for place in range(len(wording.words) + (operation == "insertion"))
        ]
        frontier = [wording for wording in nexts if not broken(rules, original, wording)]
        best = max([best, *verify(list(map(text_of, frontier)))], key=lambda v: rank(v.seen))
    assert rank(found.verified.seen) == pytest.approx(rank(best.seen))
    assert not broken(rules, original, found.wording)


def test_where_nothing_is_similar_enough_the_original_is_kept():
    vocabulary, slopes, verify = linear_encoder()
    allowed = usable(vocabulary.words, PROTECTED)
    words = Words(vocabulary, allowed, neighbours(vocabulary, allowed, -1.0), "MASK")
    search = WordSearch(similarity=(1.1, 1.1))
    found = search_words(parse("slim dress"), "insertion", words, (), search, slopes, verify)
    assert text_of(found.wording) == "slim dress"


def wordnet(folder):
    """Synsets in the form of WordNet's files, some words in two of them."""
    files = {
        "data.noun": ["  1 The licence.", "00001740 06 n 02 dress 0 Frock 1 000 | a garment"],
        "data.verb": ["00001741 29 v 01 dress 0 000 | put clothes on"],
        "data.adj": [
            "00001742 00 s 03 slim 0 thin(a) 0 lean(ip) 1 001 & 00001743 a 0000 | of a body",
            "00001743 00 a 0b a_b 0 slight 0 slim 1 x2 0 f 0 g 0 h 0 i 0 j 0 k 0 l 0 000 | small",
        ],
        "data.adv": [],
    }
    for name, lines in files.items():
        (folder / name).write_text("".join(f"{line}\n" for line in lines))
    return folder


def test_synonyms_are_the_words_of_a_synset(tmp_path):
    synonyms = read_synonyms(wordnet(tmp_path))
    assert synonyms["dress"] == {"frock"} and synonyms["thin"] == {"slim", "lean"}
    assert synonyms["slim"] == {"thin", "lean", "slight", *"fghijkl"}
    assert not {"a_b", "x2", "the", "licence"} & set(synonyms)
    words = ["lean", "slim", "slight", "thin", "frock"]
    within = synonyms_within(words, np.array([True, True, True, False, True]), synonyms)
    assert within("Slim").tolist() == [0, 2] and within("dress").tolist() == [4]
    assert within("unknown").size == 0
    rule, original = wordnet_synonym(synonyms), parse("slim Dress")
    assert rule.allows(original, substitute(original, 1, "frock"))
    assert rule.allows(original, insert(original, 0, "anything"))
    assert not rule.allows(original, substitute(original, 0, "frock"))
    (tmp_path / FILES[-1]).unlink()
    with pytest.raises(InputError, match=r"has no data\.adv\. Give the folder"):
        read_synonyms(tmp_path)
    (tmp_path / FILES[-1]).write_text("once upon a time\n")
    with pytest.raises(InputError, match=r"data\.adv, line 1: not a synset"):
        read_synonyms(tmp_path)
