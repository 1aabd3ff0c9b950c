"""The other commands: what they say, as people and as JSON, and the exit codes for pipelines."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.storage.store import TRUSTED_SECONDS
from tests.cli.conftest import POLICIES, Cli, run
from tests.faults.service import KEY, Service, free_port
from tests.http.small import found, policy, soon

RSP = POLICIES / "anthropic-rsp"
OPUS = "claude-opus-4@20250514"
COMMANDS = [
    (),
    ("quickstart",),
    ("serve",),
    ("migrate",),
    ("determine",),
    ("explain",),
    ("settle",),
    ("attest",),
    ("openapi",),
    ("keys",),
    ("keys", "create"),
    ("keys", "rotate"),
    ("keys", "list"),
    ("keys", "revoke"),
    ("policy",),
    ("policy", "check"),
    ("policy", "test"),
    ("policy", "publish"),
    ("policy", "approve"),
    ("policy", "activate"),
    ("policy", "shadow"),
    ("obligations",),
]


def read(text: str) -> Any:
    """The JSON on a command's standard output, which holds nothing else."""
    return json.loads(text)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(cli: Cli, command: tuple[str, ...]) -> None:
    ran = cli(*command, "--help")

    assert ran.code == 0
    assert f"aslgate {' '.join(command)}".strip() in " ".join(ran.out.split())


# --- Policies, on files ------------------------------------------------------------------------


def texts(folder: Path) -> list[Path]:
    """The policy versions in the folder, in the order in which they are listed."""
    return [file for file in sorted(folder.rglob("*.yaml")) if ".cases." not in file.name]


def test_good_documents_are_named_with_their_digests(cli: Cli) -> None:
    ran = cli("policy", "check", RSP)

    assert ran.code == 0
    assert [line.split()[1:3] for line in ran.out.splitlines()] == [
        ["anthropic-rsp", file.stem] for file in texts(RSP)
    ]
    assert all(line.split()[3].startswith("sha256:") for line in ran.out.splitlines())


def test_good_documents_as_json(cli: Cli) -> None:
    said = read(cli("policy", "check", RSP / "2.2.yaml", "--json").out)

    assert [set(one) for one in said] == [{"file", "faults", "digest"}]
    assert said[0]["faults"] == []


@pytest.fixture
def faulty(tmp_path: Path) -> Path:
    """RSP 2.2 with an unknown field at the top, and a level that it does not have."""
    text = (RSP / "2.2.yaml").read_text()
    faulty = tmp_path / "faulty.yaml"
    faulty.write_text(text.replace("level: ASL-3", "level: ASL-33", 1) + "\nsurprise: 1\n")
    return faulty


def test_every_fault_of_a_document_is_told_with_its_place(cli: Cli, faulty: Path) -> None:
    ran = cli("policy", "check", faulty)

    assert ran.code == 1
    lines = faulty.read_text().splitlines()
    surprise = lines.index("surprise: 1") + 1
    assert f"{faulty}:{surprise}:1: /surprise: " in ran.out
    for line in ran.out.splitlines():
        place = line.removeprefix(f"{faulty}:").split(":")
        assert 1 <= int(place[0]) <= len(lines)
        assert int(place[1]) >= 1


def test_the_faults_of_a_document_as_json(cli: Cli, faulty: Path) -> None:
    ran = cli("policy", "check", RSP / "2.2.yaml", faulty, "--json")

    assert ran.code == 1
    good, bad = read(ran.out)
    assert good["faults"] == []
    assert "/surprise" in {fault["pointer"] for fault in bad["faults"]}
    assert all(fault["line"] and fault["column"] for fault in bad["faults"])


@pytest.mark.parametrize(
    "text", [b"\xff\xfe", b"", b"a: [", b"a: &a [*a]", b"- 1", b"\x00"], ids=repr
)
def test_what_is_no_document_at_all_is_a_fault_too(cli: Cli, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "p.yaml").write_bytes(text)

    ran = cli("policy", "check", tmp_path / "p.yaml")

    assert ran.code == 1
    assert str(tmp_path / "p.yaml") in ran.out


def test_a_file_that_is_not_there_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    ran = cli("policy", "check", tmp_path / "none.yaml")

    assert ran.code == 2
    assert "none.yaml" in ran.err


def test_a_folder_without_documents_is_no_success(cli: Cli, tmp_path: Path) -> None:
    assert cli("policy", "check", tmp_path).code == 1
    assert cli("policy", "test", tmp_path).code == 1


def test_the_shipped_versions_pass_their_decision_cases(cli: Cli) -> None:
    ran = cli("policy", "test", POLICIES)

    assert ran.code == 0, ran.out
    head, *rows = [line.split() for line in ran.out.splitlines()]
    assert head == ["policy", "version", "cases", "passed"]
    assert [row[:2] for row in rows] == [[file.parent.name, file.stem] for file in texts(POLICIES)]
    assert all(int(cases) > 0 and cases == passed for _, _, cases, passed in rows)


def test_a_case_that_fails_says_what_it_wanted(cli: Cli, tmp_path: Path) -> None:
    for name in ("2.2.yaml", "2.2.cases.yaml"):
        (tmp_path / name).write_bytes((RSP / name).read_bytes())
    cases = tmp_path / "2.2.cases.yaml"
    text = cases.read_text()
    assert "decision: allow\n" in text
    cases.write_text(text.replace("decision: allow\n", "decision: deny\n", 1))

    ran = cli("policy", "test", tmp_path)
    said = read(cli("policy", "test", tmp_path, "--json").out)

    assert ran.code == 1
    assert "wanted deny, got allow" in ran.out
    difference = said[0]["differences"][0]
    assert difference["path"].strip("/") == "decision"
    assert (difference["wanted"], difference["got"]) == ("deny", "allow")


def test_a_table_of_cases_that_cannot_be_read_is_told_with_its_place(
    cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "2.2.yaml").write_bytes((RSP / "2.2.yaml").read_bytes())
    (tmp_path / "2.2.cases.yaml").write_text("cases:\n  - surprise: 1\n")

    ran = cli("policy", "test", tmp_path)

    assert ran.code == 1
    assert f"{tmp_path / '2.2.cases.yaml'}:2:" in ran.err


def test_the_contract_is_written_where_it_is_wanted(cli: Cli, tmp_path: Path) -> None:
    ran = cli("openapi", tmp_path / "openapi")

    assert ran.code == 0
    document = json.loads((tmp_path / "openapi" / "openapi.json").read_text())
    operations = (tmp_path / "openapi" / "operations.txt").read_text().splitlines()
    assert document["openapi"].startswith("3.1")
    assert ran.out.startswith(f"{len(operations)} operations")
    written = sum(len(path) for path in document["paths"].values())
    assert written == len(operations)


# --- Keys --------------------------------------------------------------------------------------


def answer(service: Service, key: str, path: str = "/v1/determinations") -> int:
    """The status that the service answers *key* with."""
    url = f"http://127.0.0.1:{service.port}{path}"
    return httpx.get(url, headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_key_opens_until_it_is_revoked(cli: Cli, service: Service) -> None:
    """Made beside the running service, on the same data directory, and of effect there."""
    where = f"--data-dir={service.data_dir}"
    made = cli("keys", "create", "service:ci", "--role=orchestrator", "--role=reader", where)
    key = made.out.strip()
    id = made.err.split()[0]

    assert made.code == 0
    assert key not in made.err
    assert answer(service, key) == 200
    listed = cli("keys", "list", where)
    assert id in listed.out
    assert key not in listed.out + listed.err
    revoked = cli("keys", "revoke", id, where)
    assert (revoked.code, revoked.out) == (0, f"{id} is revoked\n")
    deadline = time.monotonic() + TRUSTED_SECONDS + 1
    while (status := answer(service, key)) == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert status == 401


def test_keys_as_json(cli: Cli, service: Service) -> None:
    where = f"--data-dir={service.data_dir}"
    ci = ("service:ci", "--name=pipeline", "--policy-role=ceo")
    made = read(cli("keys", "create", *ci, "--role=reader", "--days=1", where, "--json").out)
    revoked = read(cli("keys", "revoke", made["id"], where, "--json").out)
    (listed,) = (
        key for key in read(cli("keys", "list", where, "--json").out) if key["id"] == made["id"]
    )

    assert made.keys() == {"id", "principal", "key", "expires_at"}
    assert revoked == {"id": made["id"], "revoked": True}
    assert (listed["principal"], listed["name"]) == ("service:ci", "pipeline")
    assert (listed["roles"], listed["policy_roles"]) == (["reader"], ["ceo"])
    assert listed["created_by"] == "service:operator/command-line"
    assert listed["expires_at"] == made["expires_at"]
    assert listed["revoked_at"] is not None
    assert "key" not in listed


def test_an_unknown_role_is_a_usage_error(cli: Cli, server_folder: Path) -> None:
    """It is told before any database is started."""
    ran = cli("keys", "create", "person:ci", "--role=king", f"--data-dir={server_folder / 'a'}")

    assert ran.code == 2
    assert "no role `king`" in ran.err
    assert not (server_folder / "a").exists()


def test_a_key_is_somebody_s(cli: Cli, server_folder: Path) -> None:
    """A name alone does not say whether two keys are one caller."""
    ran = cli("keys", "create", "release pipeline", "--role=reader", f"--data-dir={server_folder}")

    assert ran.code == 2
    assert ran.err.startswith("aslgate: principal: must be `person:`, `team:` or `service:`")


def test_a_rotated_key_is_like_the_old_one_which_opens_nothing(cli: Cli, service: Service) -> None:
    where = f"--data-dir={service.data_dir}"
    old = read(cli("keys", "create", "team:eval", "--role=reader", where, "--json").out)
    assert answer(service, old["key"]) == 200

    new = read(cli("keys", "rotate", old["id"], where, "--json").out)

    assert (new["principal"], new["id"] != old["id"]) == ("team:eval", True)
    assert answer(service, new["key"]) == 200
    time.sleep(TRUSTED_SECONDS + 0.1)
    assert answer(service, old["key"]) == 401
    again = cli("keys", "rotate", old["id"], where)
    assert (again.code, again.out) == (1, "")
    assert "it was revoked before" in again.err


def test_an_old_key_may_be_kept_while_the_new_one_is_spread(cli: Cli, service: Service) -> None:
    where = f"--data-dir={service.data_dir}"
    old = read(cli("keys", "create", "team:eval", "--role=reader", where, "--json").out)

    new = read(cli("keys", "rotate", old["id"], "--keep-old", where, "--json").out)
    time.sleep(TRUSTED_SECONDS + 0.1)

    assert (answer(service, old["key"]), answer(service, new["key"])) == (200, 200)


@pytest.mark.parametrize("step", ["revoke", "rotate"])
def test_an_unknown_key_is_neither_revoked_nor_rotated(
    cli: Cli, service: Service, step: str
) -> None:
    ran = cli("keys", step, "key_none", f"--data-dir={service.data_dir}")

    assert (ran.code, ran.err) == (1, "aslgate: no key `key_none` is recorded\n")


# --- Publish and determine ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def published(service: Service) -> Service:
    """The service with RSP 2.2, and with Claude Opus 4 and what was published of it."""
    where = {"ASLGATE_URL": f"http://127.0.0.1:{service.port}", "ASLGATE_API_KEY": KEY}
    ran = run("policy", "publish", RSP / "2.2.yaml", **where)
    assert ran.code == 0, ran.err
    assert ran.out.splitlines()[1] == (
        "it is a draft: by somebody else, `aslgate policy approve anthropic-rsp 2.2`"
    )
    second = where | {"ASLGATE_API_KEY": service.new_key("policy-approver", "approver")}
    name = ("anthropic-rsp", "2.2")
    why = "--reason=as published"
    ran = run("policy", "approve", *name, why, **second)
    assert ran.code == 0, ran.err
    assert ran.out.startswith(
        "anthropic-rsp 2.2 is approved by service:policy-approver-approver/key_"
    )
    since = "--from=2025-05-14T00:00:00Z"
    ran = run("policy", "activate", *name, since, "--retroactive", why, **second)
    assert ran.code == 0, ran.err
    assert ran.out.startswith("anthropic-rsp 2.2 is in force from 2025-05-14T00:00:00Z: pac_")
    evidence = json.loads((RSP / "evidence" / "claude-opus-4.json").read_text())
    with httpx.Client(
        base_url=where["ASLGATE_URL"], headers={"Authorization": f"Bearer {KEY}"}
    ) as http:
        assert http.post("/v1/models", json=evidence["model"]).status_code == 201
        for kind in ("assessments", "safeguards", "sign_offs"):
            # Who found does not also sign.
            by = second["ASLGATE_API_KEY"] if kind == "sign_offs" else KEY
            for body in evidence[kind]:
                path, headers = f"/v1/{kind.replace('_', '-')}", {"Authorization": f"Bearer {by}"}
                assert http.post(path, json=body, headers=headers).status_code == 201
    return service


def test_publishing_again_gives_the_same_answer(published: Service, asking: Cli) -> None:
    ran = asking("policy", "publish", RSP / "2.2.yaml")
    said = read(asking("policy", "publish", RSP / "2.2.yaml", "--json").out)

    assert ran.code == 0
    assert ran.out.splitlines() == [
        f"anthropic-rsp 2.2 is recorded as {said['digest']}",
        "in force from 2025-05-14T00:00:00Z",
    ]


def test_one_s_own_draft_is_neither_approved_nor_activated(published: Service, asking: Cli) -> None:
    for step, verb in (("approve", "approve"), ("activate", "activate")):
        ran = asking("policy", step, "anthropic-rsp", "2.2", "--reason=mine", "--json")

        assert ran.code == 1
        assert f"somebody else must {verb} it" in ran.err


def test_other_bytes_under_the_same_version_are_refused(
    published: Service, asking: Cli, tmp_path: Path
) -> None:
    text = (RSP / "2.2.yaml").read_text()
    assert "publisher: Anthropic\n" in text
    other = tmp_path / "2.2.yaml"
    other.write_text(text.replace("publisher: Anthropic\n", "publisher: Anthropic PBC\n", 1))

    ran = asking("policy", "publish", other)

    assert ran.code == 1
    assert "`anthropic-rsp 2.2` is already recorded" in ran.err


def test_a_faulty_document_is_not_sent(asking: Cli, faulty: Path) -> None:
    ran = asking("policy", "publish", faulty, ASLGATE_URL="http://127.0.0.1:9")

    assert ran.code == 1
    assert f"{faulty}:" in ran.err


RELEASE = ("determine", OPUS, "--action=external-deployment")
THEN = ("--policy=anthropic-rsp", "--at=2025-05-22T16:00:00Z")


def test_an_allow_is_shown_and_exits_with_0(published: Service, asking: Cli) -> None:
    ran = asking(*RELEASE, *THEN)

    assert ran.code == 0
    assert "ALLOW" in ran.out
    assert "ASL-3" in ran.out


def test_without_a_policy_the_gate_is_asked(published: Service, asking: Cli) -> None:
    """Half a year after its release nothing rules the thresholds out any more."""
    ran = asking(*RELEASE, "--fail-on-deny")
    said = read(asking(*RELEASE, "--json").out)

    assert ran.code == 3
    assert "DENY" in ran.out
    assert "anthropic-rsp 2.2" in ran.out
    assert [one["policy"] for one in said["policies"]] == ["anthropic-rsp"]
    assert said["allowed"] is False


def test_a_gate_is_about_now(cli: Cli) -> None:
    ran = cli(*RELEASE, "--at=2025-05-22T16:00:00Z", "--key=k")

    assert ran.code == 2
    assert "--policy" in ran.err


def test_a_determination_as_json(published: Service, asking: Cli) -> None:
    said = read(asking(*RELEASE, *THEN, "--json").out)

    assert (said["decision"], said["level"]) == ("allow", "ASL-3")
    assert said["ledger"]["index"] > 0


def test_a_determination_is_explained(published: Service, asking: Cli) -> None:
    id = read(asking(*RELEASE, *THEN, "--json").out)["id"]

    page, plain = asking("explain", id), asking("explain", id, "--plain")

    assert page.code == plain.code == 0
    assert page.out.startswith(f"# external-deployment of {OPUS}\n")
    assert plain.out.startswith(f"external-deployment of {OPUS}\n===")


def test_what_is_not_recorded_cannot_be_explained(published: Service, asking: Cli) -> None:
    for id in ("det_1", "../gates/x", "?"):
        ran = asking("explain", id)

        assert (ran.code, ran.out) == (1, "")
        assert ran.err.startswith("aslgate: ")


def test_what_would_settle_it_is_shown(published: Service, asking: Cli) -> None:
    about = ("settle", OPUS, "--action=external-deployment", "--policy=anthropic-rsp")

    ran = asking(*about)
    said = read(asking(*about, "--json").out)

    assert ran.code == 0
    assert "DENY" in ran.out
    assert "it would be more permissive" in ran.out
    assert said["decision"] == "deny"
    assert said["clears"]


def test_the_program_ends_with_the_exit_codes_that_pipelines_read(
    published: Service, program: Cli
) -> None:
    """0 allow, 3 deny, others no answer; shown on the program itself."""
    where = {"ASLGATE_URL": f"http://127.0.0.1:{published.port}", "ASLGATE_API_KEY": KEY}
    away = where | {"ASLGATE_URL": f"http://127.0.0.1:{free_port()}"}

    assert program(*RELEASE, *THEN, **where).code == 0
    assert program("determine", "n@1", "--action=training", "--fail-on-deny", **where).code == 3
    assert program(*RELEASE, **away).code == 1
    assert program("determine", **where).code == 2


def test_a_deny_exits_with_3_where_that_is_wanted(published: Service, asking: Cli) -> None:
    """A model that nobody knows is denied: an answer like any other, unless it is to fail."""
    unknown = ("determine", "nobody@1", "--action=external-deployment")

    assert asking(*unknown).code == 0
    denied = asking(*unknown, "--fail-on-deny")
    assert denied.code == 3
    assert "DENY" in denied.out
    assert read(asking(*unknown, "--fail-on-deny", "--json").out)["decision"] == "deny"


@pytest.mark.parametrize("key", ["wrong", "aslk_" + "0" * 32 + "_" + "x" * 43])
def test_a_bad_key_is_a_failure(published: Service, asking: Cli, key: str) -> None:
    ran = asking(*RELEASE, "--fail-on-deny", ASLGATE_API_KEY=key)

    assert ran.code == 1
    assert ran.err.startswith("aslgate: a valid API key or token is needed")


def test_no_key_is_a_usage_error(cli: Cli) -> None:
    ran = cli(*RELEASE)

    assert ran.code == 2
    assert "ASLGATE_API_KEY" in ran.err


@pytest.mark.parametrize(
    # Nothing listens on the discard port, and the name of each test stays the same.
    "url",
    ["http://127.0.0.1:9", "http://nowhere.invalid", "no url", "ftp://x", ""],
)
def test_a_service_that_cannot_be_reached_is_a_failure(cli: Cli, url: str) -> None:
    ran = cli(*RELEASE, "--fail-on-deny", f"--url={url}", "--key=k")

    assert ran.code == 1
    assert ran.err.startswith("aslgate: no usable answer from ")
    assert len(ran.err.splitlines()) == 1


@pytest.mark.parametrize("key", ["naïve", "two\nlines"])
def test_a_key_that_no_header_can_hold_is_a_failure(asking: Cli, key: str) -> None:
    ran = asking(*RELEASE, "--fail-on-deny", ASLGATE_API_KEY=key)

    assert ran.code in (1, 2)
    assert ran.err.startswith("aslgate: ")
    assert key not in ran.err


def test_a_malformed_question_is_a_failure_that_names_the_fault(
    published: Service, asking: Cli
) -> None:
    ran = asking("determine", "no version", "--action=external-deployment", "--fail-on-deny")

    assert ran.code == 1
    assert "/model: " in ran.err


def test_the_past_cannot_gate_the_present(cli: Cli) -> None:
    ran = cli(*RELEASE, *THEN, "--fail-on-deny", "--key=k")

    assert ran.code == 2
    assert "--at" in ran.err


BACKTEST = ("policy", "backtest", "anthropic-rsp", "2.2", "--scope=history")


def test_a_version_beside_itself_is_the_same(published: Service, asking: Cli) -> None:
    """Of each determination on record: as a sentence for people, and line by line for programs."""
    asking(*RELEASE, *THEN)
    ran = asking(*BACKTEST)
    lines = [read(line) for line in asking(*BACKTEST, "--json").out.splitlines()]

    assert ran.code == 0, ran.err
    summary = lines[-1]["summary"]
    assert summary["decided"] == summary["same"] > 0
    assert ran.out.splitlines()[-1].startswith(f"{summary['decided']} decided:")
    assert "progress" in lines[0]


def test_what_another_version_says_otherwise_is_a_table(
    published: Service, asking: Cli, tmp_path: Path
) -> None:
    """A draft without an action denies it, and says so; it fails no pipeline."""
    draft = tmp_path / "draft.yaml"
    text = (RSP / "2.2.yaml").read_text()
    draft.write_text(text.replace('version: "2.2"', 'version: "2.2-draft"', 1))
    assert asking("policy", "publish", draft).code == 0
    ran = asking("policy", "backtest", "anthropic-rsp", "2.2-draft", "--limit=3")

    assert ran.code == 0, ran.err
    assert "decided:" in ran.out


def test_a_shadow_is_begun_looked_at_and_stopped(
    published: Service, asking: Cli, tmp_path: Path
) -> None:
    """A draft without anything that 2.2 has not: live questions are decided under it, and the same."""
    draft = tmp_path / "draft.yaml"
    text = (RSP / "2.2.yaml").read_text()
    draft.write_text(text.replace('version: "2.2"', 'version: "2.2-shadowed"', 1))
    assert asking("policy", "publish", draft).code == 0
    name = ("policy", "shadow", "anthropic-rsp", "2.2-shadowed")
    begun = asking(*name, "--reason=is it the same?")
    asking(*RELEASE)
    until = time.monotonic() + 20
    while (said := read(asking(*name, "--status", "--json").out))["behind"]:
        assert time.monotonic() < until, said
    stopped = asking(*name, "--stop", "--reason=seen enough")

    assert begun.code == 0, begun.err
    assert "it is running, up to date" in begun.out
    assert (said["summary"]["decided"], said["summary"]["same"]) == (1, 1)
    assert said["differences"] == []
    assert "seen enough" in stopped.out
    assert "1 decided: 1 same" in stopped.out
    assert asking(*name, "--stop", "--status").code == 2


def test_obligations_are_listed_and_a_late_one_fails_a_pipeline(
    published: Service, asking: Cli, tmp_path: Path
) -> None:
    """A report that was due within a day of an assessment of last week."""
    asking(*RELEASE)
    said = {"id": "report", "statement": "s", "clause": "§1", "due": "P1D", "by": "ceo"}
    document = policy()
    document["actions"]["deploy"]["obligations"] = [said | {"since_assessment": "comprehensive"}]
    file = tmp_path / "small.json"
    file.write_text(json.dumps(document))
    second = {"ASLGATE_API_KEY": published.new_key("policy-approver")}
    why = "--reason=as published"
    assert asking("policy", "publish", file).code == 0
    assert asking("policy", "approve", "small", "1", why, **second).code == 0
    assert asking("policy", "activate", "small", "1", **second).code == 0
    with httpx.Client(
        base_url=f"http://127.0.0.1:{published.port}", headers={"Authorization": f"Bearer {KEY}"}
    ) as http:
        http.post("/v1/models", json={"model": "m@1", "developer": "lab"}).raise_for_status()
        assessed = found("m@1", "reached", conducted_at=soon(days=-7))
        http.post("/v1/assessments", json=assessed).raise_for_status()
    asking("determine", "m@1", "--action=deploy", "--policy=small")
    until = time.monotonic() + 20
    while read(asking("obligations", "--json").out)["behind"]:
        assert time.monotonic() < until
    listed, late = asking("obligations"), asking("obligations", "--overdue", "--fail-on-overdue")
    in_time = asking("obligations", "--policy=anthropic-rsp", "--fail-on-overdue")

    assert (listed.code, late.code, in_time.code) == (0, 3, 0), listed.err + late.err
    assert "notify-us-government" in listed.out
    assert "notify-us-government" not in late.out
    assert "OVERDUE" in late.out
    assert "OVERDUE" not in in_time.out
    assert asking("obligations", "--model=other@1").out == "nothing is outstanding\n"


def test_a_version_that_is_not_recorded_cannot_be_backtested(
    published: Service, asking: Cli
) -> None:
    ran = asking("policy", "backtest", "anthropic-rsp", "no-such", "--json")

    assert (ran.code, ran.out) == (1, "")
    assert "`anthropic-rsp no-such`" in ran.err
