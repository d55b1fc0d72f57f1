"""Privacy: the inventory, minimization, pseudonyms, k-anonymity, and a user who leaves no trace."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.datasets import DatasetError
from helpers.feature_store import OnlineStore
from helpers.features import offline_features
from helpers.privacy import INVENTORY, INVENTORY_SCHEMA, erase_user, k_anonymity, minimize, pseudonymize
from tests.small_platform import small_world

KEY = bytes(range(32))
LOG, USERS, VIDEOS = small_world()

# ---------------------------------------------------------------- inventory


def test_the_inventory_declares_each_column_of_the_three_tables():
    INVENTORY_SCHEMA.validate(INVENTORY)
    for name, table in {"log": LOG, "users": USERS, "videos": VIDEOS}.items():
        assert set(INVENTORY.loc[INVENTORY["table"] == name, "column"]) == set(table)


def test_a_column_without_a_purpose_goes_and_the_rest_stays():
    inventory = INVENTORY.assign(purpose=INVENTORY["purpose"].mask(INVENTORY["column"] == "dismissed", ""))
    assert list(minimize(LOG, inventory)) == [name for name in LOG if name != "dismissed"]
    pd.testing.assert_frame_equal(minimize(LOG), LOG)


def test_a_column_that_nobody_declared_is_refused():
    with pytest.raises(ValueError, match="does not declare ip_address of log"):
        minimize(LOG.assign(ip_address="127.0.0.1"))


def test_rows_past_their_retention_go():
    old = LOG.assign(timestamp=LOG["timestamp"] - pd.to_timedelta(np.where(LOG.index < 10, 91, 0), unit="D"))
    assert minimize(old, now=LOG["timestamp"].max()).index.tolist() == LOG.index[10:].tolist()
    assert len(minimize(USERS, table="users")) == len(USERS)


def test_an_inventory_with_a_column_twice_is_refused():
    with pytest.raises(DatasetError, match="The inventory does not fit its schema"):
        minimize(LOG, pd.concat([INVENTORY, INVENTORY.head(1)]))


# ---------------------------------------------------------------- pseudonyms


def test_a_pseudonym_is_the_keyed_hash_of_the_id():
    expected = hashlib.blake2b(b"42", key=KEY, digest_size=16).hexdigest()
    assert pseudonymize([42], KEY).tolist() == [expected]


@given(st.lists(st.integers(), max_size=20))
def test_pseudonyms_join_as_the_ids_did(ids):
    found = pseudonymize(np.array(ids, dtype=object), KEY)
    assert [a == b for a in found for b in found] == [a == b for a in ids for b in ids]


def test_another_key_gives_other_pseudonyms():
    assert not set(pseudonymize(LOG["user_id"], KEY)) & set(pseudonymize(LOG["user_id"], KEY[::-1]))


def test_a_short_key_and_a_missing_id_are_refused():
    with pytest.raises(ValueError, match=r"The key has 6 bytes: .*secrets\.token_bytes"):
        pseudonymize([1], b"secret")
    with pytest.raises(ValueError, match="1 ids are missing"):
        pseudonymize([1, None], KEY)


# ---------------------------------------------------------------- k-anonymity


def test_the_smallest_group_and_the_groups_below_k_are_found():
    people = pd.DataFrame({"age": ["13-17"] * 5 + ["18-24"] * 2 + ["50+"], "country": ["US"] * 7 + [None]})
    k, offending = k_anonymity(people, ["age", "country"], k=5)
    assert k == 1
    assert offending[["age", "people"]].to_numpy().tolist() == [["50+", 1], ["18-24", 2]]


def test_coarser_columns_make_larger_groups():
    fine, _ = k_anonymity(USERS, ["user_id", "age_band"])
    coarse, offending = k_anonymity(USERS.assign(all="everyone"), ["all"])
    assert (fine, coarse, len(offending)) == (1, len(USERS), 0)


def test_no_person_and_no_column_have_no_k():
    for table, columns in ((USERS.head(0), ["country"]), (USERS, [])):
        with pytest.raises(ValueError, match="at least one row and one quasi-identifier"):
            k_anonymity(table, columns)


# ---------------------------------------------------------------- erasure


@pytest.fixture
def platform(tmp_path):
    """Log, features, store and training set, in which users have pseudonyms."""
    log, users = (table.assign(user_id=pseudonymize(table["user_id"], KEY)) for table in (LOG, USERS))
    features = offline_features(log, users, VIDEOS)
    with OnlineStore(tmp_path / "store.db") as store:
        store.put(users, VIDEOS)
        store.update(log)
        training = features.assign(label=log["clicked"]).sample(frac=0.7, random_state=0)
        yield {"log": log, "features": features, "store": store, "training": training}


def bytes_in_files(store, text):
    """How often the text stands in the files of the store: database, write-ahead log, shared memory."""
    return sum(
        path.read_bytes().count(text.encode()) for path in store.path.parent.glob(f"{store.path.name}*")
    )


def test_no_row_and_no_byte_of_an_erased_user_remains_anywhere(platform):
    user, other = pseudonymize(LOG["user_id"].unique()[:2], KEY)
    rows = platform["log"].index[platform["log"]["user_id"] == user]
    in_training = platform["training"].index.isin(rows).sum()
    assert bytes_in_files(platform["store"], user) > 0 < in_training < len(rows)

    erased = erase_user(user, **platform)
    report = erased.report.set_index("place")
    assert report["rows_removed"].drop("online store").to_dict() == {
        "log": len(rows),
        "features": len(rows),
        "training": in_training,
    }
    assert report.loc["online store", "rows_removed"] > 0 and (report["rows_left"] == 0).all()
    assert user not in set(erased.log["user_id"])
    assert not any(table.index.isin(rows).any() for table in erased[:3])
    assert bytes_in_files(platform["store"], user) == 0 < bytes_in_files(platform["store"], other)


def test_the_other_users_keep_every_row(platform):
    user = platform["log"]["user_id"].iloc[0]
    others = platform["log"]["user_id"] != user
    erased = erase_user(user, **platform)
    pd.testing.assert_frame_equal(erased.log, platform["log"][others])
    pd.testing.assert_frame_equal(erased.features, platform["features"][others])


def test_rows_without_lineage_are_found_by_their_own_column(platform):
    user = platform["log"]["user_id"].iloc[0]
    training = pd.DataFrame({"user_id": [user, "someone"], "label": [0, 1]}, index=[-1, -2])
    assert erase_user(user, **platform | {"training": training}).training["user_id"].tolist() == ["someone"]


def test_an_unknown_user_removes_nothing(platform):
    assert (erase_user("nobody", **platform).report[["rows_removed", "rows_left"]] == 0).all(axis=None)


def test_lost_lineage_is_refused_before_anything_is_erased(platform):
    user = platform["log"]["user_id"].iloc[0]
    log = platform["log"].set_axis(np.zeros(len(LOG), int))
    with pytest.raises(ValueError, match="index of the log repeats"):
        erase_user(user, **platform | {"log": log})
    assert bytes_in_files(platform["store"], user) > 0
