"""Makes the small model's vocabulary once. It is learned from captions without any name, so no artist is in it.

python benchmarks/artist_style/tokens.py        # writes src/expunge/training/text_to_image/tokenizer.json
"""

from __future__ import annotations

from pathlib import Path
from string import ascii_lowercase, digits

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from expunge.data._captions import _BY_ARTIST, FORMS, LANGUAGES, OBJECTS, captions, description
from expunge.data._styles import STYLES

OUT = Path(__file__).parents[2] / "src/expunge/training/text_to_image/tokenizer.json"
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORDS = 512


def nameless() -> list[str]:
    """Every caption of a photo, every description of a style, and the captions of artists with the name left out."""
    found = [captions("photo", obj, form, lang) for obj in OBJECTS for form in range(FORMS) for lang in LANGUAGES]
    found += [description(style, obj, lang) for style in STYLES for obj in OBJECTS for lang in LANGUAGES]
    for place in range(len(LANGUAGES)):
        found += [form[place].format(artist="", obj=words[place]) for form in _BY_ARTIST for words in OBJECTS.values()]
    return [*found, " ".join(ascii_lowercase + digits)]  # so that every letter may end a word


def main() -> None:
    """Byte pairs of lower-case words, as in CLIP. Pairs that are equally frequent are merged in any order."""
    made = Tokenizer(models.BPE(unk_token=END, end_of_word_suffix="</w>"))
    made.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=WORDS,
        special_tokens=[BEGIN, END],
        initial_alphabet=list(ascii_lowercase + digits),
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    made.train_from_iterator(nameless(), trainer)
    ids = [(token, made.token_to_id(token)) for token in (BEGIN, END)]
    made.post_processor = processors.TemplateProcessing(single=f"{BEGIN} $A {END}", special_tokens=ids)
    OUT.write_text(made.to_str(pretty=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
