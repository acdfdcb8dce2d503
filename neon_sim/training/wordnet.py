"""Vectors for everyday English words, computed from the WordNet database: words that are explained alike lie close.

WordNet lists meanings; each has the words for it, links to broader, narrower and related meanings, and an explanation.
Words that stand together around a meaning are counted, and the counts' leading singular vectors are the words' vectors.
The database is Debian's `wordnet-base` (WordNet 3.0, Princeton University; free with its notice); the file formats are
described in its manual pages wndb(5), cntlist(5) and senseidx(5).
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

PARTS: Final = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_SENSE_TYPES: Final = {"1": "n", "2": "v", "3": "a", "4": "r", "5": "a"}  # 5: adjectives that follow a head
_LETTERS: Final = re.compile(r"[a-z]+")
_SMOOTH: Final = 0.5  # uses that the first sense of every word is given beside those counted in texts
_OWN_WORD: Final = 0.1  # a form is a word of its own if it is met at least this often, measured by its base form


@dataclass(frozen=True)
class WordVectorConfig:
    """What is counted, and how much of it is kept."""

    words: int = 12000  # dictionary forms, the most frequent ones
    dim: int = 128
    word_weight: float = 3.0  # of a meaning's own words, against
    link_weight: float = 1.0  # words of the meanings that it is linked to, and
    gloss_weight: float = 0.5  # words of its explanation
    smoothing: float = 0.75  # exponent of the context's frequency


@dataclass(frozen=True)
class Meaning:
    """One synset: words with the share of their uses that mean this, keys of linked meanings, the explanation."""

    words: dict[str, float]
    links: tuple[str, ...]
    gloss: str
    met: bool  # somebody found it in running text


@dataclass(frozen=True)
class WordVectors:
    """forms (N): all forms of a word, the dictionary form first; vectors (N, D) float32 of length one, or zero."""

    forms: tuple[tuple[str, ...], ...]
    vectors: np.ndarray

    def row(self, word: str) -> int:
        """Where a form stands. Raises KeyError for a word that is not there."""
        for row, forms in enumerate(self.forms):
            if word in forms:
                return row
        raise KeyError(word)


@dataclass(frozen=True)
class WordNet:
    """meanings by part of speech and offset ("v01835496"); how often each word was met; irregular forms."""

    meanings: dict[str, Meaning]
    uses: Counter[str]
    parts: dict[str, str]  # the parts of speech of a word, such as "nv"
    irregular: dict[str, str]


def read_wordnet(folder: Path) -> WordNet:
    """Read a folder with index.*, data.*, *.exc and cntlist.rev.

    Raises:
        FileNotFoundError: something is missing.
    """
    if not (folder / "data.verb").is_file():
        raise FileNotFoundError(f"No WordNet database in {folder}: data.verb is missing. apt-get install wordnet-base")
    tagged = dict(_tagged(folder))
    uses: Counter[str] = Counter()
    for (word, _, _), count in tagged.items():
        uses[word] += count
    parts: dict[str, str] = {}
    shares: dict[tuple[str, str], float] = {}
    for part, word, offsets in _index(folder):
        parts[word] = parts.get(word, "") + part
        for i, offset in enumerate(offsets, 1):
            shares[word, part + offset] = tagged.get((word, part, i), 0) + _SMOOTH / i
    meanings = {key: _meaning(line, shares, uses) for key, line in _data(folder)}
    irregular: dict[str, str] = {}
    for name in PARTS.values():
        for line in (folder / f"{name}.exc").read_text(encoding="ascii").splitlines():
            form, base = line.split()[:2]
            irregular.setdefault(form, base)
    return WordNet(meanings, uses, parts, irregular)


def wordnet_license(folder: Path) -> str:
    """The notice at the head of the database, which goes with everything that is made of it."""
    lines = (folder / "data.verb").read_text(encoding="latin-1").splitlines()
    return "\n".join(line.lstrip(" 0123456789").rstrip() for line in lines if line.startswith(" ")) + "\n"


def inflections(word: str, part: str) -> set[str]:
    """Regular forms of a word as a noun ("n"), verb ("v") or adjective ("a"); doubled consonants as they may come."""
    end = word[-1:]
    hissing = re.search("([sxz]|[cs]h)$", word)
    plural = word[:-1] + "ies" if re.search("[^aeiou]y$", word) else word + ("es" if hissing else "s")
    stems = {word[:-1] if end == "e" else word}
    if re.search("[^aeiou][aeiou][bdgklmnprt]$", word):
        stems = {word, word + end}
    soft = {word[:-1] + "i"} if re.search("[^aeiou]y$", word) else stems
    if part == "n":
        return {plural}
    if part == "v":
        return {plural} | {stem + "ing" for stem in stems} | {stem + "ed" for stem in soft}
    return {stem + tail for stem in soft for tail in ("er", "est")} if part == "a" else set()


def form_table(net: WordNet) -> dict[str, str]:
    """Form -> dictionary form. A form that is often met as a word of its own is one ("left" is not "leave")."""
    table: dict[str, str] = {}
    for form, base in net.irregular.items():
        if base in net.parts:
            table[form] = base
    for word, _ in net.uses.most_common():
        for part in net.parts.get(word, ""):
            for form in inflections(word, part):
                table.setdefault(form, word)
    own = {word for word in net.parts if net.uses[word] >= _OWN_WORD * net.uses[table.get(word, word)]}
    return table | {word: word for word in own}


def word_vectors(net: WordNet, config: WordVectorConfig, seed: int = 0) -> WordVectors:
    """Count, weigh by pointwise mutual information where it is positive, and keep the leading singular vectors."""
    from scipy.sparse import csr_matrix
    from scipy.sparse.linalg import svds

    table = form_table(net)
    frequency = Counter(net.uses)
    for meaning in net.meanings.values():
        if meaning.met:
            frequency.update(table.get(token, token) for token in _LETTERS.findall(meaning.gloss))
    usable = (word for word, _ in frequency.most_common() if word.isascii() and word.isalpha())
    words = [word for word in usable if table.get(word, word) == word][: config.words]
    where = {word: i for i, word in enumerate(words)}
    said = [_around(net, meaning, where, table, config) for meaning in net.meanings.values() if meaning.met]
    entries = [(row, column, value) for row, around in enumerate(said) for column, value in around.items()]
    rows, columns, values = zip(*entries, strict=True)
    counts = csr_matrix((values, (rows, columns)), shape=(len(said), len(words)), dtype=np.float64)
    weighed = csr_matrix(_mutual_information((counts.T @ counts).tocoo(), config.smoothing))
    start = np.random.default_rng(seed).standard_normal(len(words))
    left, singular, _ = svds(weighed, k=config.dim, v0=start, tol=1e-3)
    vectors = (left * np.sqrt(singular))[:, ::-1]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-9
    return WordVectors(_all_forms(words, table), np.ascontiguousarray(vectors, np.float32))


def _around(
    net: WordNet, meaning: Meaning, where: dict[str, int], table: dict[str, str], config: WordVectorConfig
) -> dict[int, float]:
    """What stands around one meaning: column -> weight."""
    found: dict[int, float] = {}

    def add(word: str, weight: float) -> None:
        if word in where:
            found[where[word]] = found.get(where[word], 0.0) + weight

    for word, share in meaning.words.items():
        add(word, config.word_weight * share)
    for key in meaning.links:
        for word, share in net.meanings[key].words.items():
            add(word, config.link_weight * share)
    for token in _LETTERS.findall(meaning.gloss):
        add(table.get(token, token), config.gloss_weight)
    return found


def _mutual_information(counts: Any, smoothing: float) -> Any:
    """Positive pointwise mutual information of co-occurrence counts, both sparse."""
    from scipy.sparse import coo_matrix

    total = counts.data.sum()
    rows = np.asarray(counts.sum(1)).ravel()
    columns = np.asarray(counts.sum(0)).ravel() ** smoothing
    columns *= total / columns.sum()
    value = np.log(np.maximum(counts.data * total / (rows[counts.row] * columns[counts.col]), 1e-12))
    kept = value > 0.0
    return coo_matrix((value[kept], (counts.row[kept], counts.col[kept])), shape=counts.shape)


def _all_forms(words: list[str], table: dict[str, str]) -> tuple[tuple[str, ...], ...]:
    forms: dict[str, set[str]] = {word: set() for word in words}
    for form, word in table.items():
        if form not in forms and word in forms and form.isascii() and form.isalpha():
            forms[word].add(form)
    return tuple((word, *sorted(forms[word])) for word in words)


def _tagged(folder: Path) -> Iterator[tuple[tuple[str, str, int], int]]:
    """(word, part, sense number) and how often it was met, from cntlist.rev."""
    for line in (folder / "cntlist.rev").read_text(encoding="ascii").splitlines():
        key, number, count = line.split()
        word, _, rest = key.partition("%")
        yield (word, _SENSE_TYPES[rest[0]], int(number)), int(count)


def _index(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """(part, word, offsets of its senses, the most frequent first)."""
    for part, name in PARTS.items():
        for line in (folder / f"index.{name}").read_text(encoding="ascii").splitlines():
            if not line.startswith(" "):  # the licence
                fields = line.split()
                yield part, fields[0], fields[-int(fields[2]) :]


def _data(folder: Path) -> Iterator[tuple[str, str]]:
    for part, name in PARTS.items():
        for line in (folder / f"data.{name}").read_text(encoding="latin-1").splitlines():
            if not line.startswith(" "):
                yield part + line[:8], line


def _meaning(line: str, shares: dict[tuple[str, str], float], uses: Counter[str]) -> Meaning:
    body, _, gloss = line.partition("|")
    fields = body.split()
    part, count = fields[2].replace("s", "a"), int(fields[3], 16)
    names = [re.sub(r"\(.*\)", "", name).lower() for name in fields[4 : 4 + 2 * count : 2]]
    first = 4 + 2 * count
    links = [fields[first + 1 + 4 * i : first + 4 + 4 * i] for i in range(int(fields[first]))]
    shared = {name: shares.get((name, part + fields[0]), 0.0) for name in names}
    words = {name: share / (uses[name] + _SMOOTH) for name, share in shared.items()}
    met = any(share >= 1.0 for share in shared.values())
    kept = tuple(kind.replace("s", "a") + offset for symbol, offset, kind in links if symbol != "!")  # opposites
    return Meaning(words, kept, gloss.lower(), met)
