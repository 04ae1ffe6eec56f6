"""What goes wrong between this machine and a bucket: what passes is survived, what does not is told with its remedy."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eo_assets.errors import EoAssetsError, StorageRefused, StoreError, TransientError
from resources.bucket import Bucket
from resources.bucket_requests import Patience, forget_clients
from resources.s3_access import S3Access
from resources.stores import open_store
from tests.fault_proxy import Fault, FaultProxy, fault_proxy
from tests.seaweed import Key, Seaweed

from .conftest import SHORT

MB = 1 << 20


@pytest.fixture
def proxy(server: Seaweed) -> Iterator[FaultProxy]:
    with fault_proxy(server.endpoint) as running:
        yield running


@pytest.fixture
def through(proxy: FaultProxy, address: str) -> Bucket:
    """The bucket, reached through the proxy."""
    return Bucket.at(address, S3Access(endpoint=proxy.endpoint), patience=SHORT)


PASSING = [
    Fault("500", times=2), Fault("503", times=2), Fault("429", times=2), Fault("reset", times=2),
    Fault("slow", seconds=2.5),
]  # fmt: skip


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.how)
def test_what_passes_is_survived_by_every_method(
    through: Bucket, proxy: FaultProxy, fault: Fault, tmp_path: Path
) -> None:
    through.put("a", b"one")
    source = tmp_path / "source"
    source.write_bytes(b"two")
    uses: list[Callable[[], object]] = [
        lambda: through.get("a") == b"one",
        lambda: through.get_range("a", 0, 1) == b"o",
        lambda: through.exists("a"),
        lambda: list(through.keys("")) == ["a"],
        lambda: [listed.key for listed in through.under("")] == ["a"],
        lambda: through.fetch("a", tmp_path / "target") is None,
        lambda: through.copy("a", "b") is None,
        lambda: through.put_file("c", source) is None,
        lambda: through.create("d", b"1"),
        lambda: through.swap("d", b"2", b"1"),
        lambda: through.delete("c") is None,
        lambda: through.delete_folder("") is None,
    ]
    for use in uses if fault.how != "slow" else uses[:1] + uses[8:9]:
        proxy.inject(fault)
        assert use()
    if fault.how != "slow":
        assert through.under("") == []


def test_a_server_that_was_waited_for_in_vain_is_not_waited_for_again_until_it_answers(
    proxy: FaultProxy, address: str
) -> None:
    patience = Patience(total_s=3, again_s=0.2, first_s=0.1, longest_s=0.2)
    store = Bucket.at(address, S3Access(endpoint=proxy.endpoint), patience)
    proxy.inject(Fault("503", times=10**9))
    waited = []
    for use in (lambda: store.get("a"), lambda: store.put("a", b"1"), lambda: store.create("b", b"1")):
        began = time.monotonic()
        with pytest.raises(TransientError, match="503"):
            use()
        waited.append(time.monotonic() - began)
    assert waited[0] > 2 and max(waited[1:]) < 1.5
    proxy.inject()
    assert store.get("a") is None, "an answer"
    proxy.inject(Fault("503", times=8))
    store.put("a", b"1")


def test_whoever_waits_is_told_once_for_which_server_how_long_and_what_shortens_it(
    proxy: FaultProxy, address: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Bucket.at(address, S3Access(endpoint=proxy.endpoint), Patience(total_s=5, first_s=0.5, longest_s=1))
    proxy.inject(Fault("503", times=10**9))
    for use in (lambda: store.get("a"), lambda: store.get("b")):
        with pytest.raises(TransientError):
            use()
    (told,) = [record.getMessage() for record in caplog.records if record.name == "resources.bucket_requests"]
    assert all(part in told for part in (address, proxy.endpoint, "5 s at most", "EO_ASSETS_S3_PATIENCE_SECONDS"))


def test_short_faults_are_not_told(through: Bucket, proxy: FaultProxy, caplog: pytest.LogCaptureFixture) -> None:
    proxy.inject(Fault("503", times=2))
    assert through.get("a") is None
    assert not [record for record in caplog.records if record.name == "resources.bucket_requests"]


@pytest.mark.parametrize("how", ["500", "reset"])
def test_a_conditional_put_whose_answer_was_lost_knows_its_own_object(
    through: Bucket, proxy: FaultProxy, how: str
) -> None:
    proxy.inject(Fault(how, "PUT", forwarded=True))  # type: ignore[arg-type]
    assert through.create("a", b"mine")
    assert proxy.counted.of("PUT") == 2
    proxy.inject(Fault(how, "PUT", forwarded=True))  # type: ignore[arg-type]
    assert through.swap("a", b"mine, newer", b"mine")
    assert proxy.counted.of("PUT") == 2
    proxy.inject(Fault(how, "PUT"))  # type: ignore[arg-type]
    assert not through.create("a", b"another")
    assert through.get("a") == b"mine, newer"


def test_an_answer_that_is_cut_off_is_read_on(through: Bucket, proxy: FaultProxy, tmp_path: Path) -> None:
    data = bytes(range(256)) * 8192
    through.put("a", data)
    proxy.inject(Fault("cut", "GET", times=2))
    assert through.get("a") == data
    proxy.inject(Fault("cut", "GET", times=2))
    through.fetch("a", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data
    assert proxy.counted.of("GET") == 3


def test_one_lost_part_of_a_large_file_is_sent_again_alone(through: Bucket, proxy: FaultProxy, tmp_path: Path) -> None:
    source = tmp_path / "large"
    source.write_bytes(b"0123456789abcdef" * (3 * MB))
    proxy.inject(Fault("500", "PUT"), Fault("reset", "PUT", after_requests=1))
    through.put_file("large", source)
    assert through.under("")[0].size == 48 * MB
    assert 48 * MB < proxy.counted.sent < (48 + 2 * 16 + 1) * MB
    through.fetch("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == source.read_bytes()


def test_a_fault_that_stays_is_transient_and_names_the_place(through: Bucket, proxy: FaultProxy) -> None:
    proxy.inject(Fault("503", times=10_000))
    with pytest.raises(TransientError, match=r"s3://projects/.*/a: .*answered 503 SlowDown") as told:
        through.put("a", b"")
    assert proxy.counted.of("PUT") > 5
    assert "SECRET" not in str(told.value)


def test_nothing_is_left_of_a_large_file_that_could_not_be_put(
    through: Bucket, proxy: FaultProxy, server: Seaweed, tmp_path: Path
) -> None:
    source = tmp_path / "large"
    source.write_bytes(bytes(40 * MB))
    proxy.inject(Fault("403", "PUT", times=100, after_requests=1))
    with pytest.raises(StorageRefused, match="no permission"):
        through.put_file("large", source)
    assert through.under("") == []
    left = server.client().list_multipart_uploads(Bucket="projects").get("Uploads", [])
    assert [upload for upload in left if upload["Key"].startswith(through.prefix)] == []


@pytest.mark.parametrize(
    ("how", "code", "said"),
    [
        ("403", "AccessDenied", "its policy needs what `eo-assets bucket-policy` prints"),
        ("403", "RequestTimeTooSkewed", "set the clock"),
        ("400", "ExpiredToken", "log in anew"),
        ("301", "PermanentRedirect", "another region.*storage.s3.region"),
        ("507", "XMinioStorageFull", "free some space"),
    ],
)
def test_a_refusal_is_told_with_its_remedy_and_without_what_the_server_repeats(
    through: Bucket, proxy: FaultProxy, how: str, code: str, said: str
) -> None:
    proxy.inject(Fault(how, times=100, code=code))  # type: ignore[arg-type]
    for use in (lambda: through.put("a", b""), lambda: through.under(""), lambda: through.create("a", b"")):
        with pytest.raises(StorageRefused, match=said) as told:
            use()
        assert "s3://projects/" in str(told.value)
        assert "SECRET" not in str(told.value)
        assert told.value.__cause__ is None
        assert told.value.__suppress_context__


def refused(bucket: Bucket) -> str:
    """What is said on each kind of request: the same."""
    said = set()
    for use in (lambda: bucket.put("a", b""), lambda: bucket.get("a"), lambda: list(bucket.keys("")),
                lambda: bucket.create("a", b"")):  # fmt: skip
        with pytest.raises(StorageRefused) as told:
            use()
        said.add(str(told.value).partition(": ")[2])
    assert len(said) == 1
    return said.pop()


def test_an_unknown_access_key_is_told(bucket: Bucket, as_key: Callable[[Key], None]) -> None:
    as_key(Key("AKIANOBODY", "not-a-real-secret"))
    said = refused(bucket)
    assert "does not know the access key" in said
    assert "AWS_ACCESS_KEY_ID" in said
    assert "not-a-real-secret" not in said


def test_a_wrong_secret_is_told(bucket: Bucket, server: Seaweed, as_key: Callable[[Key], None]) -> None:
    as_key(Key(server.admin.id, "not-a-real-secret"))
    said = refused(bucket)
    assert "the secret key does not fit" in said
    assert "not-a-real-secret" not in said


def test_no_credentials_at_all_are_told(bucket: Bucket, server: Seaweed, clean_environment: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        clean_environment.delenv(name)
    with pytest.raises(StorageRefused, match="no AWS credentials were found; set AWS_ACCESS_KEY_ID"):
        bucket.get("a")


def test_an_unknown_profile_is_told(address: str) -> None:
    with pytest.raises(StorageRefused, match=r"AWS profile nobody does not exist.*storage\.s3\.profile"):
        Bucket.at(address, S3Access(profile="nobody")).get("a")


def test_a_profile_of_the_configuration_is_used(
    address: str, server: Seaweed, clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL_S3", "AWS_REGION"):
        clean_environment.delenv(name)
    key = server.admin
    (tmp_path / "aws-credentials").write_text(
        f"[other]\naws_access_key_id={key.id}\naws_secret_access_key={key.secret}\n"
    )
    (tmp_path / "aws-config").write_text(f"[profile other]\nendpoint_url={server.endpoint}\nregion=eu-central-1\n")
    store = Bucket.at(address, S3Access(profile="other"), patience=SHORT)
    store.put("a", b"1")
    assert store.get("a") == b"1"


def test_someone_who_logged_in_anew_is_let_in_without_a_restart(
    address: str, server: Seaweed, clean_environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        clean_environment.delenv(name)
    file = tmp_path / "aws-credentials"
    file.write_text("[default]\naws_access_key_id=AKIAEXPIRED\naws_secret_access_key=x\n")
    store = Bucket.at(address, patience=SHORT)
    with pytest.raises(StorageRefused):
        store.put("a", b"")
    file.write_text(f"[default]\naws_access_key_id={server.admin.id}\naws_secret_access_key={server.admin.secret}\n")
    store.put("a", b"1")
    assert store.get("a") == b"1"


def test_a_missing_bucket_is_told(address: str) -> None:
    said = refused(Bucket.at("s3://no-such-bucket/p", patience=SHORT))
    assert "there is no such bucket" in said
    assert "storage.project_folder" in said
    with pytest.raises(StorageRefused, match="there is no such bucket"):
        Bucket.at("s3://no-such-bucket/p", patience=SHORT).exists("a")


def test_a_key_that_may_only_read_reads_and_is_told_when_it_writes(
    bucket: Bucket, server: Seaweed, as_key: Callable[[Key], None], tmp_path: Path
) -> None:
    bucket.put("a", b"1")
    as_key(server.reader)
    assert bucket.get("a") == b"1"
    assert list(bucket.keys("")) == ["a"]
    source = tmp_path / "source"
    source.write_bytes(bytes(20 * MB))
    writes: list[Callable[[], object]] = [
        lambda: bucket.put("b", b""), lambda: bucket.create("b", b""), lambda: bucket.swap("a", b"2", b"1"),
        lambda: bucket.put_file("b", source), lambda: bucket.copy("a", "b"), lambda: bucket.delete("a"),
        lambda: bucket.delete_folder(""),
    ]  # fmt: skip
    for write in writes:
        with pytest.raises(StorageRefused, match=r"no permission for this \(AccessDenied.*`eo-assets bucket-policy`"):
            write()
    as_key(server.admin)
    assert [listed.key for listed in bucket.under("")] == ["a"]


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://127.0.0.1:9", "it refuses connections"),
        (f"http://{'x' * 64}.invalid", "its name can't be resolved"),
    ],
)
def test_a_server_that_is_not_there_is_told_with_its_address(address: str, endpoint: str, said: str) -> None:
    store = Bucket.at(address, S3Access(endpoint=endpoint), patience=Patience(total_s=0.5, first_s=0.05))
    with pytest.raises(TransientError, match=said) as told:
        store.get("a")
    assert endpoint in str(told.value)


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://host", "http://user:PASSWORD@host", "http://"])
def test_an_endpoint_that_is_no_address_is_told_without_its_password(address: str, endpoint: str) -> None:
    with pytest.raises(StorageRefused, match=r"storage\.s3\.endpoint") as told:
        Bucket.at(address, S3Access(endpoint=endpoint)).get("a")
    assert "PASSWORD" not in str(told.value)


@pytest.mark.parametrize(
    "address",
    ["s3://", "s3:///prefix", "gs://bucket/x", "s3://user:PASSWORD@bucket/x", "s3://b/a/../../x", "s3://b/a//b"],
)
def test_an_address_that_is_no_bucket_is_refused_naming_the_key(address: str) -> None:
    with pytest.raises(StoreError, match=r"storage\.project_folder") as told:
        open_store(address)
    assert "PASSWORD" not in str(told.value)


def test_no_secret_is_in_a_pickled_or_printed_store(bucket: Bucket, server: Seaweed) -> None:
    bucket.put("a", b"1")
    for text in (pickle.dumps(bucket), repr(bucket).encode(), str(bucket).encode()):
        assert server.admin.secret.encode() not in text
        assert server.admin.id.encode() not in text


def test_every_error_can_be_pickled(through: Bucket, proxy: FaultProxy) -> None:
    proxy.inject(Fault("403", times=100))
    with pytest.raises(EoAssetsError) as told:
        through.put("a", b"")
    again = pickle.loads(pickle.dumps(told.value))  # noqa: S301  our own
    assert (type(again), str(again)) == (StorageRefused, str(told.value))


def test_clients_are_kept_between_requests(through: Bucket, proxy: FaultProxy) -> None:
    forget_clients()
    through.put("a", b"1")
    proxy.inject()
    assert [through.get("a") for _ in range(3)] == [b"1"] * 3
    assert proxy.counted.of("GET") == 3


def test_a_key_that_keeps_a_listing_from_being_read_is_named(bucket: Bucket, server: Seaweed) -> None:
    bucket.put("stage/a.json", b"1")
    server.client().put_object(Bucket="projects", Key=f"{bucket.prefix}/stage/b\tc.json", Body=b"2")
    listings: list[Callable[[], object]] = [
        lambda: bucket.under("stage"), lambda: list(bucket.keys("stage")), lambda: bucket.matching("stage/*.json"),
    ]  # fmt: skip
    for listing in listings:
        with pytest.raises(StoreError, match=r"/stage/b\\tc.json', which some other program made: .* rename it or rem"):
            listing()


def test_markers_that_a_console_makes_for_folders_are_no_objects(bucket: Bucket, server: Seaweed) -> None:
    for key in ("stage/folder/a", "stage/empty", "stage/folder.json"):
        bucket.put(key, b"")
    for folder in ("stage/", "stage/folder/"):
        server.client().put_object(Bucket="projects", Key=f"{bucket.prefix}/{folder}", Body=b"")
    assert [found.key for found in bucket.under("stage")] == ["stage/empty", "stage/folder.json", "stage/folder/a"]
