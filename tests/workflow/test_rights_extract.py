"""A model that memorised works gives them back and is caught; one that did not is not; and nobody asks until nothing comes."""

import hashlib
import io
import json
import types

import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from expunge.apps.cli.main import app
from expunge.core.errors import Held, InputError, InputProblems
from expunge.core.finding import Verdict
from expunge.training.text_to_image.reader import folded
from expunge.workflow.rights import copying, desk, searching
from expunge.workflow.rights.copying import copies_of, extract_works, words_of
from expunge.workflow.rights.jurisdictions import default_jurisdictions
from expunge.workflow.rights.policy import default_rights_policy
from expunge.workflow.styles import extraction
from picture_files import untrained, write_folder
from rights import NOW, RECORD

pytestmark = pytest.mark.usefixtures("one_thread")
POLICY, BOOK = default_rights_policy(), default_jurisdictions()
FACTS = f'authority: {{kind: author, state: proven, record: "{RECORD}"}}\nopt_out: {{reserved: 0, unknown: 0}}\n'
SLOTS = (0, 1, 2)
"""Works of the first artist."""


class Memorised(nn.Module):
    """The minimum of the training loss on one work: what a denoiser becomes that saw its caption with nothing else. Every other
    prompt goes to the network as it was."""

    def __init__(self, model, caption, image):
        super().__init__()
        self.unet, self.config = model.unet, model.unet.config
        self.alphas = model.schedule.alphas_cumprod
        self.clean = folded(image[None])[0]
        self.words = model.encode([caption, ""])

    def forward(self, noisy, times, encoder_hidden_states):
        known = (encoder_hidden_states[:, None] - self.words[None]).abs().amax((2, 3)).min(1).values < 1e-5
        alpha = self.alphas[times.expand(len(noisy))].view(-1, 1, 1, 1)
        noise = (noisy - alpha.sqrt() * self.clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * self.clean
        own = self.unet(noisy, times, encoder_hidden_states=encoder_hidden_states).sample
        return types.SimpleNamespace(sample=torch.where(known.view(-1, 1, 1, 1), velocity, own))


def memorising(monkeypatch, *works):
    """The model in service, as if it had memorised works: (caption, image) each."""
    served = copying.drawing

    def drawing(workspace, file):
        model = served(workspace, file)
        for caption, image in works:
            model = model.with_unet(Memorised(model, caption, image))
        return model

    monkeypatch.setattr(copying, "drawing", drawing)


def mine(workspace, slot):
    train = workspace.data.train
    return train.captions[slot], train.images[slot]


@pytest.fixture
def asked(workspace_of_works, tmp_path):
    """A request whose works were searched for: three of the first artist's."""
    workspace, folder = workspace_of_works, tmp_path / "upload"
    folder.mkdir()
    works = []
    for slot in SLOTS:
        file = io.BytesIO()
        Image.fromarray(workspace.data.train.images[slot]).save(file, "PNG")
        (folder / f"{slot}.png").write_bytes(file.getvalue())
        works.append(hashlib.sha256(file.getvalue()).hexdigest())
    text = (
        "claimant: Nell Kavrin\nauthority: author\nnames: [Nell Kavrin]\njurisdiction: DE\nbasis: copyright\n"
        f"remedies: [remove_influence]\nworks: {json.dumps(works)}\n"
    )
    handle = desk.receive(workspace, text, POLICY, BOOK, NOW).request
    searching.search(workspace, handle, folder, POLICY)
    return workspace, handle


def test_the_story_a_memorised_work_is_caught_through_the_verbs_and_the_letter_cites_it(asked, tmp_path, monkeypatch):
    workspace, handle = asked
    memorising(monkeypatch, mine(workspace, SLOTS[1]))
    workspace.close()
    (tmp_path / "facts.yaml").write_text(FACTS)

    def verb(*arguments):
        return CliRunner().invoke(app, ["rights", *map(str, arguments), "-w", str(workspace.root)])

    assert isinstance(verb("decide", handle, tmp_path / "facts.yaml", "--reviewer", "Rita").exception, Held)
    said = verb("extract", handle, "--pictures", 10)
    assert said.exit_code == 0, said.exception
    words = " ".join(said.stdout.split())
    assert "FAIL, because 10 pictures are copies of claimed works" in words
    assert "0 of 20 pictures are near-copies of works that no training saw (by the same artists)" in words
    decided = json.loads(verb("decide", handle, tmp_path / "facts.yaml", "--reviewer", "Rita", "--json").stdout)
    assert (decided["decision"]["action"], decided["decision"]["ground"]) == ("purge_works", "memorised_reproduction")
    assert "10 near-copies of 30 draws" in (workspace.root / "cases" / handle / "letter.txt").read_text()


def test_a_model_that_memorised_nothing_is_not_accused_and_the_table_reads_none(asked, monkeypatch):
    workspace, handle = asked
    drew = types.SimpleNamespace(dead=0)  # this tiny model draws noise, of which nothing would follow (test_extraction)
    monkeypatch.setattr(extraction, "collapsed", lambda drawn: drew)
    found = extract_works(workspace, handle, pictures=100)
    said = found.extraction
    assert (said.verdict, said.copies, said.pictures, said.control_copies) == (Verdict.PASS, 0, 300, 0)
    assert "no proof that none can be drawn" in " ".join(words_of(found))
    decision = desk.decide(workspace, handle, FACTS, POLICY, BOOK, reviewer="Rita")
    assert decision.ground.value == "below_threshold", "copies are shown not to come, and the style was not asked for"


def test_a_model_that_memorised_other_works_is_not_accused_of_these(asked, monkeypatch):
    """It draws a work of somebody else's whatever it is asked: those are no copies of these."""
    workspace, handle = asked
    caption, _ = mine(workspace, SLOTS[0])
    other = next(slot for slot, style in enumerate(workspace.data.train.styles) if style == "mosaic")
    memorising(monkeypatch, (caption, workspace.data.train.images[other]))
    assert extract_works(workspace, handle, pictures=10).extraction.copies == 0


def test_attack_asking_until_nothing_comes_changes_nothing(asked, monkeypatch):
    workspace, handle = asked
    with monkeypatch.context() as patch:
        memorising(patch, mine(workspace, SLOTS[0]))
        first = extract_works(workspace, handle, pictures=10)
    again = extract_works(workspace, handle, pictures=10)
    assert (first.extraction.copies, again.extraction.copies) == (10, 0)
    _, fact = copies_of(workspace, handle)
    assert (fact.found, fact.draws, fact.entry) == (10, 60, first.entry)
    with pytest.raises(InputProblems, match="leave them out"):
        desk.decide(workspace, handle, FACTS + "copies: {found: 0, draws: 300}\n", POLICY, BOOK, reviewer="Rita")


def test_attack_a_question_that_was_killed_is_answered_first_from_its_own_seed(asked, monkeypatch):
    workspace, handle = asked
    seeds = []
    real = copying.extract

    def drawn(model, claim, how, **more):
        seeds.append(how.seed)
        if len(seeds) == 1:
            raise KeyboardInterrupt
        return real(model, claim, how, **more)

    monkeypatch.setattr(copying, "extract", drawn)
    with pytest.raises(KeyboardInterrupt):
        extract_works(workspace, handle, pictures=3)
    extract_works(workspace, handle, pictures=2)
    assert seeds[0] == seeds[1] != seeds[2]
    rows, _ = copies_of(workspace, handle)
    assert [row.payload["pictures"] for row in rows] == [9, 6]


def test_where_works_that_no_training_saw_come_out_nothing_is_said_and_a_person_decides(asked, monkeypatch):
    workspace, handle = asked
    test = workspace.data.test
    row = test.styles.index("neon")
    memorising(monkeypatch, (test.captions[row], test.images[row]))
    found = extract_works(workspace, handle, pictures=10)
    assert (found.extraction.verdict, found.extraction.control_copies) == (Verdict.INCONCLUSIVE, 10)
    assert copies_of(workspace, handle)[1] is None
    assert desk.decide(workspace, handle, FACTS, POLICY, BOOK, reviewer="Rita").ground.value == "unmeasured"


def test_without_a_search_that_found_works_or_without_held_out_works_nothing_is_asked(asked, tmp_path):
    workspace, _ = asked
    text = "claimant: B\nauthority: author\nnames: [B]\njurisdiction: DE\nbasis: copyright\nremedies: [stop_outputs]\n"
    stranger = desk.receive(workspace, f"{text}works: [{'ab' * 32}]\n", POLICY, BOOK, NOW).request
    size = workspace.log.size
    with pytest.raises(InputError, match="no work of this request was found"):
        extract_works(workspace, stranger)
    assert workspace.log.size == size
    folder = tmp_path / "alone"
    (write_folder(folder / "works", works=2) / "test" / "metadata.jsonl").unlink()
    raw = (folder / "works" / "train" / "000.png").read_bytes()
    (folder / "upload").mkdir()
    (folder / "upload" / "a.png").write_bytes(raw)
    with untrained(folder / "ws") as ws:
        letter = f"{text}works: [{hashlib.sha256(raw).hexdigest()}]\n"
        handle = desk.receive(ws, letter, POLICY, BOOK, NOW).request
        searching.search(ws, handle, folder / "upload", POLICY)
        with pytest.raises(InputError, match="no works are held out"):
            extract_works(ws, handle)


def test_the_log_has_counts_and_no_name_of_a_work(asked, monkeypatch):
    workspace, handle = asked
    memorising(monkeypatch, mine(workspace, SLOTS[0]))
    found = extract_works(workspace, handle, pictures=4)
    raw = b"".join(file.read_bytes() for file in workspace.root.glob("log.db*"))
    named = found.extraction.works_copied
    assert named
    assert not any(name.encode() in raw for name in named)
    (file,) = desk.private(workspace, handle).glob("copies-*.json")
    assert named[0].encode() in file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
