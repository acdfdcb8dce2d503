"""A dictionary of eight meanings in WordNet's file formats (wndb, cntlist), for tests."""

from pathlib import Path

# part, words with how often each was met in this meaning, numbers of linked meanings ("!" before an opposite), gloss
MEANINGS = (
    ("v", {"touch": 9, "contact": 2}, (1,), "be in contact with a thing"),
    ("v", {"reach": 5, "touch": 1}, (0,), "make contact with a thing far away"),
    ("v", {"stand": 9}, (3,), "be upright on the feet"),
    ("v", {"balance": 4}, (2,), "stay upright on the feet"),
    ("n", {"foot": 7}, (), "what a body stands on"),
    ("a", {"red": 6}, ("!6",), "of the colour of blood"),
    ("a", {"blue": 5}, (), "of the colour of the sky"),
    ("r", {"never": 0}, (), "not at any time"),
)
PARTS = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
_TYPES = {"n": 1, "v": 2, "a": 3, "r": 4}


def write_wordnet(folder: Path) -> Path:
    """Write the files; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    senses: dict[tuple[str, str], list[tuple[int, int]]] = {}
    data: dict[str, str] = {part: "  1 a licence\n" for part in PARTS}
    for number, (part, words, links, gloss) in enumerate(MEANINGS):
        written = " ".join(f"{word} 0" for word in words)
        pointers = []
        for link in links:
            symbol, target = ("!", int(link[1:])) if isinstance(link, str) else ("@", link)
            pointers.append(f"{symbol} {target:08d} {MEANINGS[target][0]} 0000 ")
        links_written = f"{len(pointers):03d} {''.join(pointers)}"
        data[part] += f"{number:08d} 00 {part} {len(words):02x} {written} {links_written}| {gloss}\n"
        for word, met in words.items():
            senses.setdefault((word, part), []).append((met, number))
    index: dict[str, str] = {part: "  1 a licence\n" for part in PARTS}
    counts = ""
    for (word, part), found in sorted(senses.items()):
        found = sorted(found, reverse=True)
        index[part] += f"{word} {part} {len(found)} 0 {len(found)} 0 {' '.join(f'{place:08d}' for _, place in found)}\n"
        for sense, (met, _) in enumerate(found, 1):
            counts += f"{word}%{_TYPES[part]}:00:00:: {sense} {met}\n" if met else ""
    for part, name in PARTS.items():
        (folder / f"data.{name}").write_text(data[part])
        (folder / f"index.{name}").write_text(index[part])
        (folder / f"{name}.exc").write_text({"n": "feet foot\n", "v": "stood stand\nwent go\n"}.get(part, ""))
    (folder / "cntlist.rev").write_text(counts)
    return folder
