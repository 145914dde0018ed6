"""Questions in natural words, and the documentation that answers them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence

from .libraries import LIBRARIES
from .pairs import QAPair
from .prose import plain_sentences
from .sections import Sections, parse_sections
from .sources import DocumentedObject

__all__ = ["pairs_of"]

#: Verbs that open the summary of a function and can follow "How do I ...", in their plain forms.
_VERBS = """
    accumulate adapt add adjust aggregate align allocate append apply approximate arrange assemble assert assign
    augment average balance bin binarize blend block broadcast build calculate cast center change check choose clamp
    clean clear clip clone close cluster collapse collect combine compare compile compose compress compute
    concatenate configure connect construct convert convolve copy count create crop cut decode decompose decompress
    deconvolve define delete describe design detect determine differentiate disable discretize display divide
    download draw drop dump duplicate embed emit enable encode enforce ensure enter enumerate escape estimate
    evaluate execute exit expand export extend extract factor fetch fill filter find fit flatten flip fold force
    format fuse gather generate get give group guess handle hash identify implement impute initialize insert inspect
    integrate interleave interpolate intersect invert invoke iterate join label limit linearize list load locate log
    make map mask match maximize measure merge minimize mix modify move multiply normalize obtain open orthogonalize
    pack pad parse partition perform permute pickle plot pool pop predict prepare preprocess print process produce
    project prune purge push quantize query raise randomize rank read rearrange reconstruct record recover reduce
    refine register remap remove rename render reorder repeat replace represent resample rescale reset reshape
    resize resolve restore restrict retrieve reverse rewrite roll rotate round run sample save scale scatter
    schedule search segment select send separate serialize set sharpen shift show shuffle simplify simulate skip
    slice smooth solve sort split square stack standardize start stop store strip subsample subtract sum swap
    synchronize take test threshold tile tokenize trace track train transform translate transpose trim truncate tune
    unfold unpack unregister update upsample validate verify view visualize wait warp weight whiten wrap write
"""
#: Opening words that are no verb a reader would use: "How do I return ..." is "How do I get ...".
_SAID_AS = {"return": "get", "give": "get", "obtain": "get", "yield": "iterate over"}

_KNOWN_VERBS = frozenset(_VERBS.split()) | _SAID_AS.keys()

#: Verbs that are hardly ever nouns: "Compute ..." is an order, "Sample ..." may be the sample mean.
_ORDERS = """
    add apply build calculate check combine compare compute concatenate construct convert create decode determine
    evaluate find generate get give initialize load make normalize parse perform read register remove replace
    retrieve return save solve update write
"""
_DETERMINER = re.compile(r"(the|an?|all|each|every|any|one|two|whether|if|True|several|multiple|given|its|this)\b")

_HOW = ("How do I {what}{library}?", "How can I {what}{library}?", "What should I use to {what}{library}?")
_HOW_ANSWER = ("Use {name}.", "This is what {name} is for.", "You can use {name}.", "{name} does this.")
_FUNCTION = (
    "What does {name} do?",
    "What is {name} used for?",
    "What is the purpose of {name}?",
    "Can you explain what {name} does?",
    "What happens when I call {name}?",
    "When would I use {name}?",
)
_CLASS = (
    "What is {name}?",
    "What is {name} used for?",
    "Can you explain what {name} is?",
    "What kind of thing is {name}?",
    "When would I use {name}?",
)
_METHOD = (
    "What does the method `{method}` of {owner} do?",
    "What happens when I call `{method}` on {owner}?",
    "What is the method `{method}` of {owner} good for?",
)
_PROPERTY = (
    "What is the property `{method}` of {owner}?",
    "What does `{method}` of {owner} tell me?",
    "What do I learn from the property `{method}` of {owner}?",
)
_MODULE = ("What is the module {name} for?", "What can I find in {name}?", "What is {name} about?")
_PARAMETER = (
    "What is the meaning of the parameter `{parameter}` of {name}?",
    "What should I pass as `{parameter}` to {name}?",
    "What does the argument `{parameter}` of {name} stand for?",
    "What is `{parameter}` in {name}?",
    "How is the parameter `{parameter}` of {name} used?",
)
_SWITCH = (
    "What does the option `{parameter}` of {name} change?",
    "What effect does `{parameter}` have in {name}?",
    "When should I set `{parameter}` in {name}?",
    "What does the flag `{parameter}` of {name} decide?",
)
_RETURNS = ("What does {name} return?", "What do I get back from {name}?", "What is the result of {name}?")
_ATTRIBUTE = (
    "What is stored in the attribute `{parameter}` of {name}?",
    "What does the attribute `{parameter}` of {name} hold?",
    "What can I read from `{parameter}` of {name}?",
)
_RAISES = ("When does {name} raise {parameter}?", "Why do I get {parameter} from {name}?")
_NOTES = (
    "What should I know before using {name}?",
    "Is there anything to watch out for with {name}?",
    "What is worth knowing about {name}?",
    "What are the finer points of {name}?",
)

#: Too short or too common to say anything about the object they stand under.
_EMPTY_ANSWER = re.compile(
    r"^(\(This docstring|Alias (for|of|to)|Same as|Equivalent (of|to)|Return self|Base class|Internal|Private"
    r"|Deprecated|Not used|Ignored"
    r"|Initialize self|Runs? the forward pass|This is an? (internal|private)|Implements? self|Helper|Dummy|Unused|Test"
    r"|In-place version|Please |Use .* instead|Return the extra repr|The input (tensor|array|data|samples)\."
    r"|Out-of-place version|Do not|Abstract)",
    re.IGNORECASE,
)


def pairs_of(thing: DocumentedObject) -> Iterator[QAPair]:
    """Yields the question-answer pairs that the documentation of an object gives, the main one first.

    The form of each question is drawn by a checksum of what it asks about, so it is the same in every run.

    Args:
        thing: The object.
    """
    sections = parse_sections(thing.doc)
    summary = plain_sentences(sections.summary)
    if not summary or _EMPTY_ANSWER.match(summary[0]):
        return
    name = _spoken_name(thing)
    main = _main_pair(thing, name, summary, plain_sentences(sections.description))
    if main is not None:
        yield _pair(thing, *main)
    if thing.kind in ("module", "property"):
        return
    for question, answer, category in _details(thing, name, sections):
        yield _pair(thing, question, answer, category)


def _pair(thing: DocumentedObject, question: str, answer: str, category: str) -> QAPair:
    return QAPair(question, answer, topic=thing.topic, category=f"{thing.package} {category}")


def _main_pair(
    thing: DocumentedObject, name: str, summary: list[str], description: list[str]
) -> tuple[str, str, str] | None:
    """Returns the question for what an object is or does, its answer and its category."""
    library = "" if thing.package == "python" else f" in {LIBRARIES[thing.package][0]}"
    said = _action(summary[0])
    rest = summary[1:] + description
    if thing.kind in ("function", "class") and said and sum(map(len, rest)) >= 50 and not _one_of(thing.name, 5):
        library = " with the standard library" if thing.package == "python" else f" in {LIBRARIES[thing.package][0]}"
        library = "" if library.split()[-1] in said else library
        question = _choice(_HOW, thing.name).format(what=said, library=library)
        opening = _choice(_HOW_ANSWER, f"{thing.name} answer").format(name=thing.name)
        return question, _joined([opening, *rest]), "how"
    subject = thing.name.rpartition(".")[2] if thing.kind in ("function", "class") and _one_of(thing.name, 2) else "It"
    opening = summary[0] if thing.kind in ("property", "module") else _statement(subject, summary[0])
    answer = _joined([opening, *rest])
    if len(answer) < 30 or len(answer.split()) < 5:
        return None
    if thing.kind in ("method", "property"):
        owner, _, method = thing.name.rpartition(".")
        if thing.package != "python" and _one_of(owner, 2):
            owner = f"{owner.rpartition('.')[2]}{library}"
        asked = _METHOD if thing.kind == "method" else _PROPERTY
        return _choice(asked, thing.name).format(method=method, owner=owner), answer, "what"
    forms = {"class": _CLASS, "module": _MODULE}.get(thing.kind, _FUNCTION)
    return _choice(forms, thing.name).format(name=name), answer, "what"


def _details(thing: DocumentedObject, name: str, sections: Sections) -> Iterator[tuple[str, str, str]]:
    """Yields question, answer and category for the parameters, results, attributes, errors and notes of an object."""
    for parameter, text in sections.parameters:
        answer = _detail(text)
        if answer and not parameter.startswith(("*", "_")):
            is_switch = re.match(r"(If|Whether|When|Set|Controls|Determines|Enables?|Disables?|Flag)\b", answer)
            form = _choice(_SWITCH if is_switch else _PARAMETER, f"{thing.name} {parameter}")
            yield form.format(parameter=parameter, name=name), answer, "parameter"
    returned = [answer for _, text in sections.returns if (answer := _detail(text))]
    if returned and len(returned) == len(sections.returns) <= 2:
        yield _choice(_RETURNS, f"{thing.name} returns").format(name=name), _joined(returned), "returns"
    for attribute, text in sections.attributes:
        answer = _detail(text)
        if answer and not attribute.startswith("_"):
            form = _choice(_ATTRIBUTE, f"{thing.name} {attribute}")
            yield form.format(parameter=attribute, name=name), answer, "attribute"
    for error, text in sections.raises:
        answer = _detail(text)
        if answer and re.match(r"(If|When|In case|Raised|Whenever|Unless)\b", answer):
            yield _choice(_RAISES, f"{thing.name} {error}").format(parameter=error, name=name), answer, "raises"
    notes = plain_sentences(sections.notes)
    if sum(map(len, notes)) >= 60:
        yield _choice(_NOTES, f"{thing.name} notes").format(name=name), _joined(notes), "notes"


def _detail(text: str) -> str:
    answer = _joined(plain_sentences(text))
    return answer if len(answer) >= 50 and len(answer.split()) >= 8 and not _EMPTY_ANSWER.match(answer) else ""


def _joined(sentences: Sequence[str]) -> str:
    """Joins sentences as long as the answer stays short enough to be read at a glance."""
    answer = sentences[0] if sentences else ""
    for sentence in sentences[1:4]:
        if len(answer) + len(sentence) > 450:
            break
        answer += f" {sentence}"
    return answer


def _action(sentence: str) -> str:
    """Returns a summary as what somebody wants to do ("solve a linear system"), empty if it is not such a sentence."""
    first, _, rest = sentence.rstrip(".").partition(" ")
    verb = _plain_form(first.lower())
    if not verb or not 12 <= len(rest) <= 90 or rest.split()[0] in ("or", "and", "that"):
        return ""
    return (
        ""
        if re.search(r"[():;]|\bself\b|\bthis\b|\bgiven by\b|\band \w+s\b (?=the|a|an|its|their|them|it|chunks)", rest)
        else f"{_SAID_AS.get(verb, verb)} {rest}"
    )


def _plain_form(word: str) -> str:
    """Returns a verb as it follows "to", empty if the word is no verb that is known here."""
    if word in _KNOWN_VERBS:
        return word
    for ending, plain in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("s", "")):
        if word.endswith(ending) and f"{word[: -len(ending)]}{plain}" in _KNOWN_VERBS:
            return f"{word[: -len(ending)]}{plain}"
    return ""


def _third_person(verb: str) -> str:
    if re.search(r"[^aeiou]y$", verb):
        return f"{verb[:-1]}ies"
    return f"{verb}es" if re.search(r"(s|sh|ch|x)$", verb) else f"{verb}s"


def _statement(subject: str, sentence: str) -> str:
    """Returns a summary with its subject ("Compute the mean." is "It computes the mean."), unchanged if it has no verb
    to put it before."""
    first, _, rest = sentence.partition(" ")
    verb = _plain_form(first.lower())
    subject = "It" if subject == verb else subject
    if not verb or re.match(r"(and|or|are|is|of|for|that|which|whose)\b", rest):
        return sentence
    if verb != first.lower():
        return f"{subject} {first[0].lower()}{first[1:]} {rest}"
    if verb not in _ORDERS.split() and not _DETERMINER.match(rest):
        return sentence
    also = re.sub(
        r"\b(and|then) ([a-z]+) (?=(?:the|an?|its|it|them|all|each|True)\b)",
        lambda match: f"{match[1]} {_third_person(match[2]) if match[2] in _KNOWN_VERBS else match[2]} ",
        rest,
    )
    return f"{subject} {_third_person(verb)} {also}"


def _spoken_name(thing: DocumentedObject) -> str:
    """Returns an object's name as a person would say it, sometimes in full, sometimes by library."""
    if thing.package == "python" or thing.kind in ("method", "property", "module") or _one_of(thing.name, 2):
        return thing.name
    short = thing.name.rpartition(".")[2]
    library = LIBRARIES[thing.package][0]
    possessive = "'" if library.endswith("s") else "'s"
    return _choice((f"{short} in {library}", f"{library}{possessive} {short}"), f"{thing.name} spoken")


def _choice(forms: Sequence[str], key: str) -> str:
    return forms[zlib.crc32(key.encode()) % len(forms)]


def _one_of(key: str, number: int) -> bool:
    """Tells for one key in `number` on average, always the same for the same key, to do something."""
    return zlib.crc32(f"{key} {number}".encode()) % number == 0
