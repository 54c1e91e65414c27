"""What kinds of signal comments carry, by simple rules that are all written down in one table.

In: the text of a comment. Out: the kinds of signal it carries, any number of them; and how often each occurs
among many comments. A rule looks for words and phrases of English, whole and in any case; what it cannot see
(irony, other languages, a name of a person) it misses, so the counts describe a data set and label no comment
for training. Called by data/publishing.py for the data card.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OTHER = "other"
"""The name of comments that carry none of the signals, in tables."""


@dataclass(frozen=True, slots=True)
class Signal:
    """One kind of signal.

    Attributes:
        description: as the data card says it.
        rules: regular expressions; one hit is enough. Blanks and apostrophes are already plain, case counts
            only inside `(?-i:...)`, and each rule begins and ends at a word boundary or says otherwise.
        examples: made-up comments that carry it.
        false_friends: made-up comments that look as if, and do not.
    """

    description: str
    rules: tuple[str, ...]
    examples: tuple[str, ...]
    false_friends: tuple[str, ...]


_PRONOUNS = "he|she|him|her|hers|his|himself|herself|they|them|their|theirs|themselves"
_PERSONS = (
    "guys?|m[ae]n|wom[ae]n|girls?|boys?|kids?|child(?:ren)?|bab(?:y|ies)|toddlers?|lad(?:y|ies)|gentlem[ae]n"
    "|dudes?|fellas?|fellows?|lads?|couple|bride|groom|grandma|grandpa|mother|father|mum|mom|dad|sons?"
    "|daughters?|brothers?|sisters?"
)
_ROLES = (
    "actor|actress|actors|singer|dancers?|driver|rider|pilot|soldiers?|sailors?|player|teacher|chef|farmer"
    "|characters?|protagonist|villain|hero|heroine|narrator|host|presenter|cameram[ae]n|photographer|crowd"
)
_ANIMALS = (
    "(?<!hot )dogs?|doggo|pup(?:py|pies)?|cats?|kitt(?:y|en|ens)|birds?|horses?|ponies|pony|donkeys?|cows?"
    "|goats?|sheep|bears?|monkeys?|elephants?|foxes|fox|rabbits?|parrots?"
)
_MOMENTS = "seconds?|secs?|minutes?|mins?|scenes?|shots?|frames?|parts?|moments?|half|bit"
_WORKS = "movies?|films?|songs?|books?|novels?|series|shows?|episodes?|video ?games?|cartoons?|paintings?"
_GOOD = (
    "lov(?:es?|ed|ing|ely)|adore|great|greatest|best|better|good|nice|nicely|beautiful|beautifully|gorgeous"
    "|stunning|amazing|awesome|wonderful|fantastic|fabulous|brilliant|excellent|superb|perfect|perfectly"
    "|incredible|impressive|marvell?ous|magnificent|splendid|terrific|delightful|charming|adorable|cute|cool"
    "|funny|hilarious|fun|fascinating|interesting|enjoy(?:ed|able)?|favou?rites?|masterpiece|underrated"
    "|well done|worth (?:it|watching|seeing|a look)"
)
_BAD = (
    "hat(?:es?|ed)|bad|worst|worse|terrible|horrible|awful|boring|dull|ugly|disgusting|gross|stupid|dumb|lame"
    "|ridiculous|annoying|disappoint(?:ed|ing|ment)|overrated|cringe|cringy|creepy|weird|sucks?|crap|crappy"
    "|garbage|trash|rubbish|pointless|waste of (?:time|money)"
)

SIGNALS: Mapping[str, Signal] = {
    "temporal": Signal(
        "when something happens: a time mark, the beginning, the end, before or after",
        (
            # 1:23 or 1:02:33 of a video, not 10:30 am and not the score 3:10:5
            r"(?<![\d:.])\d{1,3}:[0-5]\d(?::[0-5]\d)?(?![\d:]| ?[ap]\.?m\b)",
            r"\b(?:at|by|until|till|toward|towards|near|before|right from) the (?:very )?"
            r"(?:end|ending|beginning|start|finish)\b(?! of the (?:day|world))",
            r"\bin the beginning\b",
            r"\b(?:first|last|final|opening|closing) (?:few |two |three |couple of |\d{1,3} )?"
            rf"(?:{_MOMENTS})\b",
            r"\b\d{1,4} ?(?:seconds?|secs?|minutes?|mins?) (?:in|mark)\b(?! (?:the|a|my)\b)",
            r"\b(?:second|minute|minutes|seconds) \d{1,4}\b",
            r"\b(?:half|mid|part) ?-?way (?:through|in)\b",
            r"\b(?:right|just|moments?|seconds) (?:before|after|when|as) (?:it|he|she|they|the|that|this)\b",
            rf"\bthe (?:{_MOMENTS}) (?:when|where)\b",
            r"\bthe moment (?:he|she|it|they|that)\b",
            r"\bwait for it\b",
        ),
        (
            "1:23 is where it happens",
            "that look at the end",
            "the first second got me",
            "the part where it falls, just before the rain",
        ),
        ("I woke up at 10:30 am", "at the end of the day it is a car", "in the end we all die", "ratio 16:9"),
    ),
    "cognitive": Signal(
        "what goes on in the viewer's head: thinking, memory, attention, surprise, wondering",
        (
            r"\b(?:keep|kept|stop|stopped|can't help|cannot help|start|started|makes? me|made me|got me"
            r"|had me|have me) think(?:ing)?\b",
            r"\bthink(?:ing)? (?:about|of)\b",
            r"\bthought (?:about|of|it was|this was|that was|it were|he was|she was|they were)\b",
            r"\b(?:forget|forgets|forgot|forgotten|unforgettable|remember|remembers|remembered|remembering"
            r"|memorable|memories|haunts? me|haunting)\b",
            r"\bmemory\b(?! (?:cards?|sticks?|foam|leaks?))",
            r"\b(?:stuck|stays?|lives?|rent free) in my (?:head|mind)\b",
            r"\b(?:why|wondering|wondered|curious|puzzled|puzzling|confus(?:ed|ing))\b",
            r"\b(?<!no )wonder\b",
            r"\b(?:notice|notices|noticed|noticing|realiz(?:e|ed|ing)|realis(?:e|ed|ing))\b",
            r"\bcaught my (?:eye|attention)\b",
            r"\b(?:mesmeri[sz](?:ed|ing)|hypnoti[sz](?:ed|ing)|captivat(?:ed|ing)|distract(?:ed|ing))\b",
            r"\b(?:surpris(?:e|ed|ing|ingly)|shock(?:ed|ing)|astonish(?:ed|ing)|astounded|unexpected"
            r"|plot twist|mind[- ]?(?:blown|blowing)|unbelievable|wow|omg|wtf)\b",
            r"\b(?:can't|cannot|couldn't|hard to|don't) (?:even )?believe\b",
            r"\b(?:did not|didn't|never|wasn't) (?:even )?(?:see|expect|expecting)\b",
            r"\b(?:don't|didn't|do not|can't|cannot|finally|now i) (?:get it|understand|figure)\b",
            r"\bi(?:'m| am)? imagin(?:e|ing)\b",
        ),
        (
            "I keep thinking about this",
            "never forget where I was",
            "why would anyone do that",
            "didn't notice the hat at all",
            "wow, I can't believe it",
        ),
        ("what a wonderful place", "no wonder", "buy a bigger memory card", "I think so"),
    ),
    "character": Signal(
        "who is in it: persons, roles and animals, by pronoun or by kind (names are not looked for)",
        (
            rf"\b(?:{_PRONOUNS})\b",
            r"\b(?:the|this|that|these|those|a|an|another|both|two|three|four|poor|which|what|who's the)"
            rf" (?:[\w'-]++ ){{0,2}}(?:{_PERSONS}|{_ROLES}|{_ANIMALS})\b",
        ),
        ("he looks tired", "her face though", "that guy on the left", "the little brown dog steals the show"),
        ("the theme is there", "hey man, nice", "a hot dog please", "dude what", "this is heavy"),
    ),
    "context": Signal(
        "what lies around it: place, time, culture, likeness and reference to something else",
        (
            r"\bremind(?:s|ed|ing)? (?:me|us|you|anyone|anybody|one) (?:of|a bit|a lot)\b",
            r"\b(?:this|that|it|these|those|they)(?:'s| is| was| are| were|'re)"
            r" (?:in|at|near|from|outside)\b",
            r"\b(?:taken|filmed|shot|recorded|made|built|set|located|born|grew up|lived?|living|based) "
            r"(?:in|at|near|on|around)\b",
            r"\bwhere (?:is|was|are|were|exactly|did|can)\b",
            r"\bwhat (?:place|city|town|country|street|building|year|decade|era|movie|film|song|music)\b",
            r"\b(?:in|near) (?:the )?(?-i:[A-Z][a-z]{2,})\b",
            r"\bin (?:my|our|this|that|your) (?:country|city|town|village|area|region|state|culture|day)\b",
            r"(?<![\d$.,:#+-])(?:1[5-9]\d\d|20[0-4]\d)s?(?![\d%:]|[.,]\d|"
            r" (?:people|views|likes|comments|times|dollars|euros|bucks|km|miles|feet|met(?:er|re)s|of)\b)",
            r"\bthe (?:early |mid |mid-|late )?'?[2-9]0'?s\b",
            r"\b\d{1,2}(?:st|nd|rd|th)[ -]century\b",
            r"\b(?:years|decades|centuries|months) (?:ago|later|earlier)\b",
            r"\b(?:back (?:in|then)|nowadays|those days|these days|century|centuries|wartime|medieval"
            r"|victorian|edwardian|pre-?war|post-?war|world war|ww ?(?:1|2|ii|i)|civil war)\b",
            r"\b(?:looks?|looked|looking|sounds?|sounded|feels?|felt|seems?)"
            r" (?:a bit |a lot |just |almost )?like\b",
            r"\b(?:just|more|exactly|almost) like (?:a|an|the|my|in|that|this)\b",
            r"\b(?:similar|compared|identical) (?:to|with)\b",
            r"\b(?:same as|as if|straight out of|based on|inspired by|reference to|parody of|version of"
            r"|tribute to)\b",
            rf"\b(?:from|in) (?:the|that|this|a) (?:[\w'-]++ )?(?:{_WORKS})\b",
            r"\b(?:better|worse|bigger|smaller|older|nicer|more \w{1,20}) than\b",
            r"\b(?:culture|cultural|tradition|traditional|historic|historical|history|heritage)\b",
        ),
        (
            "reminds me of my school",
            "this is in Dublin",
            "must be around 1914",
            "looks like a scene from the movie",
            "this was taken near the station in the 80s",
        ),
        (
            "lovely place",
            "like 5 years",
            "I paid $1950",
            "2000 people agree",
            "I like it in the morning",
            "in my dreams",
        ),
    ),
    "opinion": Signal(
        "what the viewer makes of it: liking, praise, blame, a view of one's own",
        (
            # not the greetings, sign-offs, names and quantities these words stand in
            rf"\b(?<!for )(?<!would )(?<!'d )(?:{_GOOD})\b(?!-(?:grand|great|aunt|uncle)| (?:britain|war"
            r"|western|southern|northern|lakes|deal|many|morning|night|evening|afternoon|luck|grief|regards"
            r"|wishes|buy|grand\w*|great)\b)",
            rf"\b(?:{_BAD})\b(?! luck\b)",
            r"\b(?:i|we) (?:(?:really|also|still|do|don't|just|personally|totally|would|must|actually) )?"
            r"(?:think|believe|feel|reckon|prefer|agree|disagree|doubt|recommend)\b(?! (?:about|of)\b)",
            r"\b(?:imo|imho|in my (?:humble )?opinion|if you ask me)\b",
            r"\b(?:i|we|really|don't|didn't|also|still|especially) like\b(?! \d)",
            r"\b(?:so|very|how|really|such a|too) pretty\b",
            "[\u2764\u2665\U0001f44d\U0001f44e\U0001f44f\U0001f493-\U0001f49f\U0001f4af\U0001f525\U0001f600-\U0001f606"
            "\U0001f60d\U0001f618\U0001f602\U0001f621\U0001f622\U0001f62d\U0001f92e\U0001f923\U0001f929\U0001f970]",
        ),
        ("I love this", "so boring", "best thing today", "I think it works", "lovely place", "\U0001f60d"),
        (
            "like 5 years",
            "Great Britain",
            "my great-grandfather",
            "my great great grandfather",
            "good morning",
            "I can't believe it",
            "gloves",
            "gone for good",
        ),
    ),
}
"""The rules, in the order they are shown. The kinds are those in which Behavior-LLaVA says that comments tell
about content; the words are ours."""

_COMPILED = {name: re.compile("|".join(signal.rules), re.IGNORECASE) for name, signal in SIGNALS.items()}
_APOSTROPHES = re.compile("[\u2018\u2019\u02bc\u00b4`]")


@dataclass(frozen=True, slots=True)
class Counts:
    """How many comments carry each signal.

    Attributes:
        comments: how many were looked at.
        carrying: signal -> comments; one comment may count several times. Holds every signal of SIGNALS.
        other: comments with none.
    """

    comments: int
    carrying: Mapping[str, int]
    other: int

    def __add__(self, more: Counts) -> Counts:
        return Counts(
            self.comments + more.comments,
            {name: count + more.carrying[name] for name, count in self.carrying.items()},
            self.other + more.other,
        )


def signals(text: str) -> tuple[str, ...]:
    """The signals a comment carries, in the order of SIGNALS; empty for none."""
    plain = _APOSTROPHES.sub("'", " ".join(text.split()))
    return tuple(name for name, rule in _COMPILED.items() if rule.search(plain))


def measure(texts: Iterable[str]) -> Counts:
    """Counts over comments, one in memory at a time."""
    found = Counter[str]()
    comments = 0
    for text in texts:
        found.update(signals(text) or (OTHER,))
        comments += 1
    return Counts(comments, {name: found[name] for name in SIGNALS}, found[OTHER])
