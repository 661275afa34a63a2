"""RecBole's EASE, from the checkpoint that its trainer writes with torch.save."""

from __future__ import annotations

import zipfile
from pathlib import Path

from expunge.connect.recommenders._builders import TORCH_BUILDERS, Sparse, Storage, array_of, number_of, squares
from expunge.connect.recommenders._files import CODE, entries_of, only, opened, starts_with
from expunge.connect.recommenders._linear import ForeignLinear, linear
from expunge.connect.recommenders._opcodes import Allowed, Record, parts_of, read_pickle
from expunge.core.errors import DataError

_ALLOWED = Allowed(names=frozenset({"torch.device", "yaml.loader.FullLoader"}), packages=("recbole",))
_EXPORT = (
    "in RecBole's environment: np.savez('ease.npz', weights=np.asarray(model.item_similarity), "
    "items=np.array(dataset.field2id_token['item_id']).astype(str), item_counts=np.asarray("
    "model.interaction_matrix.power(2).sum(0)).ravel(), **{'lambda': config['reg_weight']}), read with `arrays`"
)
_SIMILARITY, _ROWS = "item_similarity", "interaction_matrix"


class RecBole:
    """A checkpoint `EASE-<date>.pth`, the zip that torch.save writes (recbole 1.2.1: model/general_recommender/ease.py,
    trainer/trainer.py `_save_checkpoint`). torch.load is not used: RecBole's own objects in the file would run.

    B is float32 and was inverted in float32; column 0 is RecBole's padding, an item nobody has. λ is `reg_weight` of
    the config inside. Item ids are in the data set, not in the checkpoint: they come back as None, and are numbered by
    first appearance there (`dataset.field2id_token`). The checkpoint keeps all training rows as `interaction_matrix`;
    item counts are taken from them.
    """

    layout: str = "one EASE-<date>.pth checkpoint (recbole 1.2, torch 1.6 or newer)"

    def recognises(self, files: tuple[Path, ...]) -> bool:
        """By the name of a module in the zip's first member, which is stored unpacked."""
        start = starts_with(files[0], 2**16) if len(files) == 1 else b""
        return start[:2] == b"PK" and b"data.pkl" in start and b"recbole." in start

    def read(self, files: tuple[Path, ...]) -> ForeignLinear:
        """The model in the checkpoint."""
        path = only(files, self.layout)
        with opened(path, "a torch checkpoint") as (stream, size), zipfile.ZipFile(stream) as archive:
            value = _checkpoint(archive, size)
            other = value.get("other_parameter") if isinstance(value, dict) else None
            config = value.get("config") if isinstance(value, dict) else None
            if not isinstance(other, dict) or _SIMILARITY not in other:
                raise DataError("not a checkpoint of RecBole's EASE", expected=_SIMILARITY, hint=_EXPORT, code=CODE)
            weights, lam = array_of(other.get(_SIMILARITY)), _setting(config, "reg_weight")
            counts, times = squares(other.get(_ROWS), 0 if weights is None or not weights.ndim else len(weights))
        return linear(
            "recbole EASE checkpoint",
            weights=weights,
            regularisation=None if lam is None else lam * times * times,
            item_counts=counts,
            values_times=times,
            residues=[f"other_parameter/{name}" for name, part in other.items() if isinstance(part, Sparse | Record)],
            notes=("item 0 is RecBole's padding", "item ids are in the data set, not in the checkpoint"),
        )


def _checkpoint(archive: zipfile.ZipFile, size: int) -> object:
    """The value of data.pkl, storages taken from the members beside it. Torch stores members unpacked."""
    held = entries_of(archive, size, 1)
    packed = [name for name, entry in held.items() if entry.compress_type != zipfile.ZIP_STORED]
    pickles = [name for name in held if name.count("/") == 1 and name.endswith("/data.pkl")]
    if packed or len(pickles) != 1:
        raise ValueError(f"{len(pickles)} pickles and {len(packed)} compressed members; torch writes one and none")
    root = pickles[0].removesuffix("data.pkl")
    order = archive.read(f"{root}byteorder") if f"{root}byteorder" in held else b"little"
    if order != b"little":
        raise ValueError("a checkpoint in big-endian order")

    def storage(reference: object) -> Storage:
        if not isinstance(reference, tuple) or len(reference) != 5 or reference[0] != "storage":
            raise ValueError("it refers to something other than a tensor's storage")
        kind, key, count = reference[1], reference[2], reference[4]
        if not isinstance(key, str) or not key.isdecimal() or f"{root}data/{key}" not in held:
            raise ValueError(f"it refers to a storage {str(key)[:40]!r} that is not there")
        return Storage(kind, archive.read(f"{root}data/{key}"), count)

    with archive.open(pickles[0]) as stream:
        length = held[pickles[0]].file_size
        return read_pickle(stream, length, allowed=_ALLOWED, builders=TORCH_BUILDERS, persistent=storage, hint=_EXPORT)


def _setting(config: object, name: str) -> int | float | None:
    """A setting of the config record: its own dict of final settings first, then whatever else holds one."""
    places = [config.attributes()] if isinstance(config, Record) else []
    places += [part for _, part in parts_of(config) if isinstance(part, dict)] if places else []
    for place in sorted(places, key=lambda found: "final_config_dict" not in found):
        inner = place.get("final_config_dict", place)
        if isinstance(inner, dict) and number_of(inner.get(name)) is not None:
            return number_of(inner.get(name))
    return None
