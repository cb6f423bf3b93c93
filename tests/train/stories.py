#!/usr/bin/python3
"""Simple stories, as many different ones as are asked for: stories.py [N] [SEED] prints N of them (default 5, seed 1).

A story is a plot (plots.py) told about one cast. The cast (class Cast) picks from words.py who the hero, the friend and
the elder are, which pronouns stand for them, the place, the thing, the weather; a plot is a text with these signs:

    [one|another|]   any one of these, also nothing; they may stand inside each other; [one|another]=x is {x} from then on
    {name}           a word of the cast; {Name} the same with a capital

"a" before a vowel becomes "an" at the end. All chance comes from one random.Random per story, seeded by the seed and the
story's number, so that story i of a seed is always the same text, in any version of Python 3.

Half of the casts have names out of a few, so that a model this small meets each often; the others have any of 170 names, or
one that is made up, so that it learns to copy the name it is given.
"""
import random
import re
import sys

import plots
import words

MIN_WORDS, MAX_WORDS = 80, 220
FEW = 0.5  # share of the stories whose names are of the few
PRONOUNS = {
    "he": dict(he="he", him="him", his="his", himself="himself"),
    "she": dict(he="she", him="her", his="her", himself="herself"),
    "it": dict(he="it", him="it", his="its", himself="itself"),
}


def pick(r, items):
    """random.choice has changed between versions of Python; this has not."""
    return items[int(r.random() * len(items))]


class Cast(dict):
    """The words that {name} stands for. Keys of persons: hero, friend, elder, mom with their pronouns in front of them
    (the hero's: he him his himself; the friend's: fhe fhim fhis; the elder's: ehe; the parent's: mhe)."""

    def __init__(self, r):
        super().__init__()
        self.r, self.few = r, r.random() < FEW
        self.used = set()
        self.make_hero()
        self.make_friend()
        self.make_elder()
        self.make_world()

    def name(self, table, few_table):
        """Of many names there is now and then one that is in no table."""
        while True:
            if self.few:
                name = pick(self.r, few_table)
            elif self.r.random() < 0.12:
                name = pick(self.r, words.NAME_HEADS) + pick(self.r, words.NAME_MIDDLES) + pick(self.r, words.NAME_TAILS)
            else:
                name = pick(self.r, table)
            if name not in self.used:
                self.used.add(name)
                return name

    def species(self):
        while True:
            species = pick(self.r, sorted(words.HOMES))
            if species not in self.used:
                self.used.add(species)
                return species

    def being(self, child):
        """-> kind, name or "the kind", a phrase that introduces it, pronoun."""
        if child:
            girl = self.r.random() < 0.5
            kind, name = ("girl", self.name(words.GIRLS, words.FEW_GIRLS)) if girl else ("boy", self.name(words.BOYS, words.FEW_BOYS))
            return kind, name, f"a {pick(self.r, words.GOOD)} {kind} [named|called] {name}", "she" if girl else "he"
        kind, pronoun = self.species(), pick(self.r, ["he", "she"])
        if self.r.random() < 0.6:
            name = self.name(words.ANIMAL_NAMES, words.FEW_ANIMAL_NAMES)
            return kind, name, f"a {pick(self.r, words.LOOKS)} {kind} [named|called] {name}", pronoun
        return kind, "the " + kind, f"a {pick(self.r, words.LOOKS)} {kind}", pick(self.r, [pronoun, "it"])

    def make_hero(self):
        r = self.r
        self.child = r.random() < 0.55
        kind, name, phrase, pronoun = self.being(self.child)
        self.update(PRONOUNS[pronoun], kind=kind, hero=name, a_hero=phrase)
        self.named = not name.startswith("the ")
        self["the_hero"] = self["hero"] if not self.named else pick(r, [name, "the " + kind])
        self["good"], self["look"] = pick(r, words.GOOD), pick(r, words.LOOKS)
        self["home"] = pick(r, words.CHILD_HOMES if self.child else words.HOMES[kind])
        self["home"] = ("on " if self["home"].startswith("a farm") else "in ") + self["home"]
        self["call"] = name if self.named else "little " + kind
        self["age"] = pick(r, ["four", "five", "six", "seven", "eight"])
        parent, mhe = pick(r, words.PARENTS if self.child else words.PARENTS[4:6])
        self.update(parent=parent, mom=self["his"] + " " + parent, mhe=mhe, mhim="her" if mhe == "she" else "him",
                    mhis="her" if mhe == "she" else "his")

    def make_friend(self):
        kind, name, phrase, pronoun = self.being(self.child and self.r.random() < 0.4)
        words_of = PRONOUNS[pronoun]
        self["fcall"] = "little " + kind if name.startswith("the ") else name
        self.update(fkind=kind, friend=name, a_friend=phrase, fhe=words_of["he"], fhim=words_of["him"], fhis=words_of["his"])

    def make_elder(self):
        while True:
            elder = pick(self.r, words.ELDERS)
            kind = elder.split()[-1]
            if kind not in self.used:
                break
        self.used.add(kind)
        he = words.ELDER_PRONOUNS.get(kind) or pick(self.r, ["he", "she"])
        self.update(a_elder="a " + elder, elder="the " + pick(self.r, [kind, "old " + kind]), ehe=he,
                    ehim="her" if he == "she" else "him")

    def make_world(self):
        r = self.r
        place = pick(r, sorted(words.PLACES))
        wild = pick(r, words.WILD)
        while wild == place:
            wild = pick(r, words.WILD)
        self.update(place=place, the_place="the " + place, at=f"{words.PLACES[place]} the {place}", wild=wild, in_wild=f"{words.PLACES[wild]} the {wild}")
        self["toy"] = pick(r, words.TOYS)
        self["a_toy"] = "a " + pick(r, [pick(r, words.SIZES) + " " + pick(r, words.COLORS), pick(r, words.COLORS), pick(r, words.SIZES)]) + " " + self["toy"]
        self["spot"] = pick(r, words.HIDING)
        self["food"], self["foods"], self["soup"] = pick(r, words.FOODS), pick(r, words.MANY_FOODS), pick(r, words.SOUPS)
        self["seed"], self["plant"], self["harvest"] = pick(r, words.PLANTS)
        self["skill"], self["try_skill"], self["advice"], self["did_skill"] = pick(r, words.SKILLS)
        self["game"], self["hobby"], self["wish"] = pick(r, words.GAMES), pick(r, words.HOBBIES), pick(r, words.WISHES)
        self["weather"], self["sky"] = pick(r, words.GOOD_WEATHER)
        self["cakes"], self["deep"] = pick(r, words.CAKES), pick(r, words.DEEP)

    def __missing__(self, key):
        lower = key[0].lower() + key[1:]
        if lower == key:
            raise KeyError(key)
        text = self[lower]
        return text[0].upper() + text[1:]


INNER = re.compile(r"\[([^\[\]]*)\](?:=(\w+))?")
FIELD = re.compile(r"\{(\w+)\}")


def choose(match, cast):
    choice = pick(cast.r, match.group(1).split("|"))
    if match.group(2):
        cast[match.group(2)] = choice
    return choice


def fill(text, cast):
    """Choices from the inside out; then words, which may bring choices and words of their own."""
    while "[" in text or "{" in text:
        text, n = INNER.subn(lambda m: choose(m, cast), text)
        if not n:
            text = FIELD.sub(lambda m: cast[m.group(1)], text)
    text = re.sub(r"\s+", " ", text).strip()
    return re.sub(r"\b([Aa]) (?=[aeiouAEIOU])", r"\1n ", text)


def fits(plot, opening, cast):
    return (plot.who == "any" or cast.child) and (plot.dated or not opening.dated)


def tell(seed, number):
    """Story `number` of `seed`: one line of text."""
    r = random.Random(seed * 1000003 + number)
    while True:
        cast = Cast(r)
        opening = pick(r, plots.openings(cast.child, cast.named))
        plot = pick(r, plots.PLOTS)
        while not fits(plot, opening, cast):
            plot = pick(r, plots.PLOTS)
        cast["one_day"] = pick(r, plots.THEN if opening.dated else plots.ONE_DAY)
        cast["one_night"] = "That night," if opening.dated else "One night,"
        text = fill(" ".join([opening.text, plot.text, pick(r, plot.morals)]), cast)
        if MIN_WORDS <= len(text.split()) <= MAX_WORDS:
            return text


def stories(seed, first, n):
    for number in range(first, first + n):
        yield tell(seed, number)


if __name__ == "__main__":
    for story in stories(int(sys.argv[2]) if len(sys.argv) > 2 else 1, 0, int(sys.argv[1]) if len(sys.argv) > 1 else 5):
        print(story + "\n")
