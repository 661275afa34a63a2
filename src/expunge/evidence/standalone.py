#!/usr/bin/env python3
"""Check an expunge certificate bundle with Python 3.11 and `cryptography` alone: no expunge, no network.

    python3 verify.py BUNDLE.zip --roots ROOTS.json [--against RECEIPT.txt]

ROOTS.json (a list of {name, role, keyid, public}) must come from a channel you trust, not from the bundle. Exit code 0:
every step holds; 5: it does not. Neither are the findings judged by a policy here, nor is your request compared with what
went: `expunge verify --policy MINE --against RECEIPT` does that.
A verifier that comes with the evidence counts only if you trust its source: compare it with an expunge release's own.
"""

# ruff: noqa: T201  (the only file of the package that prints: it is a program of its own)
from __future__ import annotations

import argparse
import base64
import hashlib
import json
import re
import stat
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:x-expunge:deletion-certificate:v0.1"
PAYLOAD = "application/vnd.in-toto+json"
PROVE_THEMSELVES = {"certificate.json", "log.json", "checkpoint.txt"}
NAMES = PROVE_THEMSELVES | {"plan.json", "findings.json", "absence.json", "selftest.json", "report.html"}
NAMES |= {"verify.py", "README.txt"}
FIGURE = re.compile(r"figures/[a-z0-9][a-z0-9_-]{0,63}\.svg\Z")
HEX = re.compile(r"[0-9a-f]{64}\Z")
NEXT = {
    "request.received": ({"new"}, "received"),
    "request.resolved": ({"received", "resolved", "decided"}, "resolved"),
    "plan.committed": ({"resolved", "decided"}, "planned"),
    "candidate.executed": ({"planned"}, "executed"),
    "candidate.failed": ({"planned", "executed", "verified"}, "decided"),
    "findings.recorded": ({"executed"}, "verified"),
    "decision.made": ({"verified"}, "decided"),
    "data.purged": ({"decided", "purged"}, "purged"),
    "certificate.issued": ({"purged"}, "certified"),
    **dict.fromkeys(("incident.opened", "request.refused", "not_learned.issued"), (set[str](), "")),
}
MEANS = "EXACT means: equal to this recipe run {}; recipe and hyper-parameters were chosen with {} present; the request"
MEANS += " is assumed not to depend on the published model's outputs."
EXACT_MEANS = MEANS.format("with the record's slot empty", "the data")
EVENTS_MEAN = MEANS.format("on histories without these events", "them")
UNCHANGED = "The weights did not have to change: the file in service before is already what the recipe makes of that "
UNCHANGED += "data."
EDITED = "The weights of the file {} were edited and not trained again. On {} pictures the style came back, by name and under "
EDITED += "the attacks listed, no more often than styles no training saw; on {} pictures others lost no more than is allowed. "
EDITED += "The weights may still hold the style, and other attacks were not tested. {}"
RECORDS = {"unit": "records", "count": None, "histories": 0}  # a statement that says nothing else is about records
BAD_INPUT = (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, OSError)
BAD_ZIP = (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error)


class Failure(Exception):
    """A step that does not hold."""


def need(ok: object, why: str) -> None:
    if not ok:
        raise Failure(why)


def sha(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def strict(data: bytes | str) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        need(len({key for key, _ in items}) == len(items), "JSON with a duplicate key")
        return dict(items)

    def refuse(text: str) -> Any:
        raise Failure(f"JSON with the number {text[:20]}")

    text = data.decode() if isinstance(data, bytes) else data
    return json.loads(text, object_pairs_hook=pairs, parse_float=refuse, parse_constant=refuse)


def canonical(value: Any) -> bytes:
    """RFC 8785 for JSON without fractions."""

    def ordered(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: ordered(item[key]) for key in sorted(item, key=lambda key: key.encode("utf-16-be"))}
        return [ordered(part) for part in item] if isinstance(item, list) else item

    return json.dumps(ordered(value), ensure_ascii=False, separators=(",", ":")).encode()


def exact(files: dict[str, bytes], name: str) -> Any:
    value = strict(files[name])
    need(canonical(value) == files[name], f"{name} was rewritten")
    return value


def read_zip(path: str) -> dict[str, bytes]:
    need(Path(path).stat().st_size <= 64 << 20, "the bundle is too large")
    with zipfile.ZipFile(path) as archive:
        infos = archive.infolist()
        names = [info.filename for info in infos]
        need(len(names) == len(set(names)) <= 200, "a file comes twice, or there are too many")
        need(sum(info.file_size for info in infos) <= 128 << 20, "it unpacks to too many bytes")
        for info in infos:
            plain = info.filename == info.orig_filename and stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
            known = info.filename in NAMES or FIGURE.match(info.filename)
            small = info.file_size <= min(32 << 20, 100 * max(info.compress_size, 1))
            need(plain and known and small and not info.flag_bits & 1, f"{info.filename[:80]!r} is no bundle file")
        return {info.filename: archive.read(info) for info in infos}


def read_roots(path: str) -> list[dict[str, str]]:
    roots: list[dict[str, str]] = strict(Path(path).read_bytes())
    need(isinstance(roots, list) and roots, "the trust roots are empty")
    for root in roots:
        need(set(root) == {"name", "role", "keyid", "public"}, "a trust root has other fields than it should")
        raw = base64.b64decode(root["public"], validate=True)
        need(len(raw) == 32 and hashlib.sha256(raw).hexdigest() == root["keyid"], "a key id is not of its key")
    need(len({root["keyid"] for root in roots}) == len(roots), "a key is trusted twice")
    return roots


def signed(root: dict[str, str], signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(root["public"])).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def open_envelope(envelope: Any, roots: list[dict[str, str]]) -> tuple[bytes, list[dict[str, str]]]:
    need(set(envelope) == {"payload", "payloadType", "signatures"} and envelope["payloadType"] == PAYLOAD, "no DSSE")
    payload = base64.b64decode(envelope["payload"], validate=True)
    message = b"DSSEv1 %d %b %d %b" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)
    given = {item["keyid"]: base64.b64decode(item["sig"], validate=True) for item in envelope["signatures"]}
    need(len(given) == len(envelope["signatures"]), "one key signs twice")
    issuers = [root for root in roots if root["role"] in ("operator", "verifier") and root["keyid"] in given]
    good = [root for root in issuers if signed(root, given[root["keyid"]], message)]
    need({root["role"] for root in good} == {"operator", "verifier"}, "operator and verifier have not both signed")
    return payload, good


def open_checkpoint(note: str, roots: list[dict[str, str]]) -> tuple[str, int, bytes]:
    body, blank, tail = note.rpartition("\n\n")
    lines = (body + "\n").split("\n")
    need(blank and len(lines) == 4 and tail.endswith("\n"), "not a signed checkpoint")
    origin, size, root = lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True)
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    need(text == body + "\n" and len(root) == 32 and size >= 0, "not a checkpoint")
    for line in tail[:-1].split("\n"):
        dash, name, blob64 = line.split(" ")
        blob = base64.b64decode(blob64, validate=True)
        for key in roots:
            public = base64.b64decode(key["public"])
            mine = hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4] == blob[:4]
            if key["role"] == "log" and dash == "—" and mine and name == origin:
                need(signed(key, blob[4:], text.encode()), "the checkpoint's signature is wrong")
                return origin, size, root
    raise Failure("no log key of your roots signed the checkpoint")


def leaf_hash(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def unhex(texts: list[str]) -> list[bytes]:
    need(all(HEX.match(text) for text in texts), "not a hash")
    return [bytes.fromhex(text) for text in texts]


def climb(node: int, last: int, path: list[bytes]) -> Iterator[tuple[bytes, bool]]:
    """Siblings from a leaf up, each with whether it stands to the left (RFC 9162 sections 2.1.3.2 and 2.1.4.2)."""
    for sibling in path:
        need(last, "the path is too long")
        left = bool(node & 1) or node == last
        yield sibling, left
        while left and node and not node & 1:
            node, last = node >> 1, last >> 1
        node, last = node >> 1, last >> 1
    need(last == 0, "the path is too short")


def check_inclusion(leaf: bytes, index: int, size: int, path: list[str], root: bytes) -> None:
    need(type(index) is int and type(size) is int and 0 <= index < size, "leaf outside the tree")
    for sibling, left in climb(index, size - 1, unhex(path)):
        leaf = node_hash(sibling, leaf) if left else node_hash(leaf, sibling)
    need(leaf == root, "a leaf is not in the tree")


def check_consistency(old: tuple[int, bytes], new: tuple[int, bytes], path: list[str]) -> None:
    if old == new and not path:
        return
    need(0 < old[0] < new[0] and path, "no consistency proof")
    hashes = unhex(path) if old[0] & (old[0] - 1) else [old[1], *unhex(path)]
    node, last = old[0] - 1, new[0] - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = hashes[0]
    for sibling, left in climb(node, last, hashes[1:]):
        before = node_hash(sibling, before) if left else before
        after = node_hash(sibling, after) if left else node_hash(after, sibling)
    need(before == old[1] and after == new[1], "FORK: one tree does not extend the other")


def check_deletion(proof: dict[str, Any], before: tuple[str, int], after: tuple[str, int]) -> None:
    leaf, size, ingested = proof["leaf"], after[1], proof["ingested"]
    tree_root = unhex([after[0].removeprefix("sha256:")])[0]
    need(ingested["size"] == before[1], "a proof for a manifest of another size")
    source = unhex([before[0].removeprefix("sha256:")])[0]
    check_inclusion(leaf_hash(unhex([leaf])[0]), ingested["index"], before[1], ingested["path"], source)
    left, right = proof["absent"]["left"], proof["absent"]["right"]
    place = -1 if left is None else left["proof"]["index"]
    need((size if right is None else right["proof"]["index"]) == place + 1, "no neighbours")
    need(size or tree_root == hashlib.sha256(b"").digest(), "an empty manifest has another root")
    need((left is None or left["leaf"] < leaf) and (right is None or leaf < right["leaf"]), "not between neighbours")
    for side in (left, right, proof.get("became")):
        if side is not None:
            inner = side["proof"]
            need(inner["size"] == size, "a proof for a manifest of another size")
            check_inclusion(leaf_hash(unhex([side["leaf"]])[0]), inner["index"], size, inner["path"], tree_root)


def walk(entries: list[dict[str, Any]], handle: str) -> tuple[dict[str, Any], int]:
    """Last payload and index of each kind, and the number of plans, after a walk that is in order and ends certified."""
    state, last, plans, accepted = "new", {}, 0, False
    need([e["index"] for e in entries] == sorted({e["index"] for e in entries}), "entries out of order")
    for entry in entries:
        body, kind = entry["body"], entry["body"]["kind"]
        need(body["case"] in (None, handle) or kind.startswith("data."), "an entry of another case")
        need(kind != "certificate.revoked", "the certificate was revoked")
        if body["case"] != handle:
            continue
        if kind in NEXT:
            allowed, after = NEXT[kind]
            need(state in allowed, f"{kind} cannot follow {state}")
            need(kind != "plan.committed" or not accepted, "a plan after acceptance")
            accepted = body["payload"]["accepted"] is True if kind == "decision.made" else accepted
            state, plans = after, plans + (kind == "plan.committed")
        last[kind] = {"index": entry["index"], **body["payload"]}
    need(state == "certified" and accepted, f"the case ends {state}")
    return last, plans


def check_released(entries: list[dict[str, Any]], p: dict[str, Any], last: dict[str, Any]) -> None:
    """The accepted model went into service in place of the model before, once, and no other one followed it."""
    rows = [entry for entry in entries if entry["body"]["kind"] == "model.released"]
    decided, issued = last["decision.made"]["index"], last["certificate.issued"]["index"]
    own = [entry for entry in rows if entry["body"]["case"] == p["case"]["handle"] and entry["index"] < issued]
    need(len(own) == 1 and own[0]["index"] > decided, "the certified model was not put in service")
    first, stated = own[0]["body"]["payload"], (p["models"]["after"], p["models"]["before"])
    need((first.get("model"), first.get("replaces")) == stated, "another model was put in service")
    later = [entry["body"]["payload"].get("model") for entry in rows if entry["index"] > own[0]["index"]]
    need(all(model == stated[0] for model in later), "another model was put in service later")


def data_of(payload: Any) -> Any:
    return {key: (payload.get("data") or {}).get(key) for key in ("root", "content_root", "slots", "present")}


def what_went(p: dict[str, Any]) -> str:
    """What the data does not contain, and who remains; the same words as evidence/sentence.py."""
    erased, gone = p.get("erased", RECORDS), p["data_before"]["present"] - p["data_after"]["present"]
    unit, count, users = erased["unit"], erased["count"], erased["histories"]
    remain = f"whose {'user remains' if users == 1 else f'{users} users remain'} with everything else"
    if unit == "interaction":
        return f"the {'one interaction' if count == 1 else f'{count} interactions'} of the request, {remain}"
    if unit == "window":
        who = "a user" if users == 1 else f"{users} users"
        return f"what {who} had in the time window of the request, {remain}"
    if unit == "item":
        what = "the one item" if count == 1 else f"the {count} items"
        return f"{what} of the request in any history; {users} histories became shorter, and their users remain"
    return "the record" if gone == 1 else f"the {gone} records"


def sentence(p: dict[str, Any]) -> str:
    """The sentence the guarantee and basis earn; the same words as evidence/sentence.py."""
    file, records, unit = p["models"]["after"], what_went(p), p.get("erased", RECORDS)["unit"]
    rows = sorted(p["findings"], key=lambda item: item["check"])
    checks = "Checks: " + ", ".join(f"{item['check']} {item['verdict']}" for item in rows) + "."
    by = p["recomputed"] and p["recomputed"]["name"]
    if p["guarantee"] == "EXACT":
        logged = f"As logged by the owner, the file {file} is the result of the recorded recipe on data that does not "
        claim = f"{logged}contain {records}; nobody else has recomputed it."
        if by:
            claim = f"The file {file} was recomputed by {by} from data that does not contain {records}."
        claim = f"{claim} {UNCHANGED}" if p["models"]["before"] == file else claim
        return f"{claim} {EXACT_MEANS if unit == 'records' else EVENTS_MEAN} {checks}"
    if p["guarantee"] == "CERTIFIED":
        who = f"recomputed by {by}" if by else "as logged by the owner"
        return (
            f"The file {file} comes, {who}, from a method with an (epsilon, delta) theorem at epsilon = "
            f"{p['bound']['epsilon']}, delta = {p['bound']['delta']}, whose assumptions were checked for this model: "
            f"within that bound it cannot be told from a model trained without {records}. {checks}"
        )
    found = {item["check"]: item for item in p["findings"]}
    if "membership" not in found or found.get("style", {}).get("verdict") == "PASS":
        return EDITED.format(file, found["style"]["n"], found["collateral"]["n"], checks)
    m, deployed = found["membership"], found.get("deployed", {"verdict": "not checked"})["verdict"]
    names = list(dict.fromkeys(c["name"].partition(": ")[0] for c in m["conditions"] if ": " in c["name"]))
    shares = [c for c in m["conditions"] if "beyond the midpoint" in c["name"]]
    midpoint = "the share of runs that exceeded the midpoint was not bounded"
    if shares and all(c["limit"] is not None and c["verdict"] == "PASS" for c in shares):
        midpoint = f"at most {max((c['limit'] for c in shares), key=float)} of runs exceeded the midpoint"
    return (
        f"On {m['n']} retrainings, attacks {', '.join(names) or '(unnamed)'} found a mean residual of {m['estimate']} "
        f"[{m['interval']['low']}, {m['interval']['high']}] of the original influence; {midpoint}; on this file {file} "
        f"the deployed-file check says {deployed}; other attacks and copies were not tested."
    )


class Verifier:
    """The steps in order; each raises Failure or returns what it found."""

    def __init__(self, path: str, roots: str, against: str | None) -> None:
        self.path, self.against = path, against
        self.roots = read_roots(roots)

    def steps(self) -> list[tuple[str, Callable[[], str]]]:
        return [
            ("bundle is read safely", self.read),
            ("operator and verifier signed", self.signatures),
            ("statement is of a known version", self.statement),
            ("checkpoint is signed by the log", self.checkpoint),
            ("entries are in the log", self.included),
            ("entries come in order and agree", self.ordered),
            ("records are absent", self.absent),
            ("sentence is the generated one", self.said),
            ("certificate has not expired", self.current),
            ("log extends the checkpoint you kept", self.extends),
        ]

    def read(self) -> str:
        self.files = read_zip(self.path)
        return f"{len(self.files)} files"

    def signatures(self) -> str:
        self.payload, self.signers = open_envelope(exact(self.files, "certificate.json"), self.roots)
        return ", ".join(root["name"] for root in self.signers)

    def statement(self) -> str:
        plain = strict(self.payload)
        need(plain["_type"] == STATEMENT and plain["predicateType"] == PREDICATE, "unknown statement")
        self.p = p = plain["predicate"]
        subject = [{"name": "model", "digest": {"tensorRoot": p["models"]["after"].removeprefix("sha256:")}}]
        need(plain["subject"] == subject and p["version"] == "0.1", "the subject is not the model after")
        need(p["decision"]["accepted"] is True and p["decision"]["guarantee"] == p["guarantee"], "not accepted")
        return sha(self.payload)

    def checkpoint(self) -> str:
        self.origin, self.size, self.root = open_checkpoint(self.files["checkpoint.txt"].decode(), self.roots)
        need(self.origin == self.p["log"]["origin"] and self.size > self.p["log"]["size"], "of another log or too old")
        return f"{self.origin} at size {self.size}"

    def included(self) -> str:
        self.log = exact(self.files, "log.json")
        head = {"v": 1, "origin": self.origin, "size": self.size}
        need({key: self.log[key] for key in self.log if key in head} == head and len(self.log) == 5, "another log.json")
        for entry in self.log["entries"]:
            need(set(entry) == {"index", "body", "path"}, "an entry has other fields than it should")
            check_inclusion(leaf_hash(canonical(entry["body"])), entry["index"], self.size, entry["path"], self.root)
        for link in self.log["consistency"]:
            need(set(link) == {"old", "new", "root", "path"} and link["new"] == self.size, "not a consistency proof")
            check_consistency((link["old"], unhex([link["root"]])[0]), (self.size, self.root), link["path"])
        return f"{len(self.log['entries'])} entries"

    def ordered(self) -> str:
        p, files = self.p, self.files
        found = {name: sha(data) for name, data in files.items() if name not in PROVE_THEMSELVES}
        need(found == p["files"], "a file is not the one that was signed for")
        need(found["plan.json"] == p["plan"]["digest"], "plan.json is not the plan")
        need(files["findings.json"] == canonical(p["findings"]), "findings.json is not the findings")
        plan = exact(files, "plan.json")
        need(plan["model"]["digest"] == p["models"]["before"] and plan["policy"] == p["policy"], "another plan")
        need(plan["method"] == p["method"]["name"] and plan["attempt"] == p["attempts"], "another method or attempt")
        last, plans = walk(self.log["entries"], p["case"]["handle"])
        stated = {
            "plan.committed": {"plan": p["plan"]["digest"], "index": p["plan"]["index"]},
            "request.received": {"request": p["case"]["request"]},
            "candidate.executed": {"model": p["models"]["after"]},
            "findings.recorded": {"findings": sha(files["findings.json"])},
            "decision.made": {"accepted": True, "guarantee": p["guarantee"]},
            "certificate.issued": {"certificate": sha(self.payload)},
        }
        for kind, fields in stated.items():
            need(fields.items() <= last[kind].items(), f"{kind} in the log says something else")
        need(data_of(last["data.purged"]) == data_of({"data": p["data_after"]}), "other data was retained")
        need(plans <= p["attempts"], "more attempts were made than stated")
        check_released(self.log["entries"], p, last)
        planned, before = last["plan.committed"]["index"], data_of({"data": p["data_before"]})
        older = [e["body"] for e in self.log["entries"] if e["index"] < planned]
        known = [body for body in older if body["kind"] in ("data.ingested", "data.purged")]
        need(any(data_of(body["payload"]) == before for body in known), "the data before was not logged before")
        tested = [body["payload"].get("report") for body in older if body["kind"] == "selftest.recorded"]
        need(p["selftest"] in tested, "no self-test that is older than the plan vouches for it")
        need(found.get("selftest.json") == p["selftest"], "selftest.json is not the report of the self-test")
        return f"{plans} plan(s)"

    def absent(self) -> str:
        before, after, proofs = self.p["data_before"], self.p["data_after"], exact(self.files, "absence.json")
        gone = before["present"] - after["present"]
        if self.p.get("erased", RECORDS)["unit"] != "records":
            return self.shortened(before, after, proofs)
        need(not any(proof.get("became") for proof in proofs), "a record was replaced instead of taken out")
        ids = {proof["leaf"] for proof in proofs if proof["kind"] == "id"}
        need(gone > 0 and len(ids) == gone and len(proofs) == 2 * gone, "not every record is proven absent")
        contents = {(proof["leaf"], proof["ingested"]["index"]) for proof in proofs if proof["kind"] == "content"}
        need(len(contents) == gone, "not every content is proven absent")
        for proof in proofs:
            root = "root" if proof["kind"] == "id" else "content_root"
            check_deletion(proof, (before[root], before["present"]), (after[root], after["present"]))
        return f"{gone} record(s)"

    def shortened(self, before: dict[str, Any], after: dict[str, Any], proofs: list[dict[str, Any]]) -> str:
        same = all(before[key] == after[key] for key in ("root", "present", "slots"))
        need(same, "somebody was taken out, not events")
        old = {(proof["leaf"], proof["ingested"]["index"]) for proof in proofs}
        new = {(proof["became"]["leaf"], proof["became"]["proof"]["index"]) for proof in proofs if proof.get("became")}
        count = self.p["erased"]["histories"]
        need(count > 0 and count == len(proofs) == len(old) == len(new), "not every history is proven shorter")
        for proof in proofs:
            need(proof["kind"] == "content", "a proof of another kind")
            sizes = (before["content_root"], before["present"]), (after["content_root"], after["present"])
            check_deletion(proof, *sizes)
        return f"{count} shorter histories, of which nobody's id went"

    def said(self) -> str:
        need(sentence(self.p) == self.p["sentence"], "the sentence is not the generated one")
        verifiers = {root["keyid"]: root["name"] for root in self.signers if root["role"] == "verifier"}
        by = self.p["recomputed"]
        honest = by is None or (verifiers.get(by["keyid"]) == by["name"] and not self.self_issued())
        need(honest, "recomputed by nobody who signed")
        return str(self.p["guarantee_basis"])

    def current(self) -> str:
        issued, expires = (datetime.fromisoformat(self.p[key]) for key in ("issued_at", "expires_at"))
        now = datetime.now(UTC)
        need((issued - now).total_seconds() <= 600 and now < expires, "expired, or from the future")
        return f"until {expires.date()}"

    def extends(self) -> str:
        if self.against is None:
            return "SKIPPED: you brought no checkpoint; a rollback or fork would not be seen"
        origin, size, root = open_checkpoint(Path(self.against).read_text("utf-8"), self.roots)
        need(origin == self.origin, "the checkpoint you kept is of another log")
        old, new = sorted([(size, root), (self.size, self.root)])
        if old[0] == new[0]:
            need(old == new, "FORK: two logs of one size")
        elif old[0]:
            paths = [c["path"] for c in self.log["consistency"] if (c["old"], c["new"]) == (old[0], new[0])]
            need(paths, f"no consistency proof from size {old[0]} to {new[0]}: suppose a fork or rollback")
            check_consistency(old, new, paths[0])
        return f"size {old[0]} to {new[0]}"

    def self_issued(self) -> bool:
        owners = [root["name"].partition(" (")[0] for root in self.signers]
        return self.p["custody"] == "same" or len(set(owners)) < len(owners)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check an expunge certificate bundle offline.")
    parser.add_argument("bundle")
    parser.add_argument("--roots", required=True, help="public keys you trust, from a channel you trust")
    parser.add_argument("--against", help="the checkpoint you were given when the request came in")
    options = parser.parse_args()
    print(
        f"This verifier is {Path(__file__).name}. If it came with the bundle, it counts only if you trust its source."
    )
    try:
        verifier, ok = Verifier(options.bundle, options.roots, options.against), True
        for number, (name, step) in enumerate(verifier.steps(), start=1):
            print(f"{number:2} {name}: ", end="", flush=True)
            print(step())
    except (Failure, *BAD_INPUT, *BAD_ZIP) as error:
        print(f"FAILED: {type(error).__name__}: {error}")
        ok = False
    if ok and verifier.self_issued():
        print("self-issued: operator and verifier keys are in the same custody")
    print(verifier.p["sentence"] if ok else "NOT VERIFIED")
    print("The findings were not judged by a policy here; `expunge verify --policy MINE` does that.")
    return 0 if ok else 5


if __name__ == "__main__":
    sys.exit(main())
