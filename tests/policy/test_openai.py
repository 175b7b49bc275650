"""The engine openai against servers that are slow, busy, wrong or gone; what is asked and what is never told."""

from __future__ import annotations

import json
import threading
import time
from email.utils import formatdate
from pathlib import Path

import pytest

from policy import endpoint
from policy.contract import EngineConfig, EvaluateJob, GenerateJob, ImproveJob, Sampling
from policy.engines.base import Completion, Engine, Request, check_for_ppo, generate, start_engine
from policy.generate import main
from rewardmodel.contract import JobError
from rewardmodel.rundir import Stopped, open_run
from tests.policy.conftest import progress_of, write_run
from tests.policy.servers import Reply, ScriptedServer, chat_completion, free_port

KEY = "sk-never-to-be-seen-5f2c"
BUSY = Reply(503, {"error": {"message": "overloaded"}})


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT_SECONDS", 0.02)


def request(seed: int = 0, **changes) -> Request:
    settings = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 12, **changes}
    return Request([{"role": "user", "content": "Hi."}], [1, 2], seed=seed, **settings)


def config(base_url: str, **changes) -> EngineConfig:
    return EngineConfig(
        **{"name": "openai", "base_url": base_url, "served_model": "served", "retry_seconds": 1.0, **changes}
    )


@pytest.fixture
def own(scripted, monkeypatch) -> ScriptedServer:
    """A scripted server whose address whoever runs the site has set, with a key."""
    monkeypatch.setenv("HONE_OPENAI_BASE_URL", scripted.base_url + "/")
    monkeypatch.setenv("HONE_OPENAI_API_KEY", KEY)
    return scripted


def ready_engine(server: ScriptedServer, tmp_path: Path, **changes) -> Engine:
    engine = start_engine(config(server.base_url, **changes), tmp_path, tmp_path / "openai.log")
    engine.wait_until_ready()
    return engine


def test_a_request_is_asked_as_a_chat_with_exactly_its_sampling(own, tmp_path):
    engine = ready_engine(own, tmp_path)
    [answer] = generate(engine, [request(seed=2**63 - 1)])
    assert own.chats[-1].body == {
        "model": "served",
        "messages": [{"role": "user", "content": "Hi."}],
        "temperature": 0.7,
        "top_p": 0.9,
        "max_tokens": 12,
        "seed": 2**63 - 1,
    }
    assert own.chats[-1].headers["Authorization"] == f"Bearer {KEY}"
    assert answer == Completion("Fine.", token_count=2, finish_reason="stop", token_ids=[], logprobs=[])
    assert engine.version == "127.0.0.1: served"


def test_an_empty_chat_is_put_as_an_empty_turn(own, tmp_path):
    generate(ready_engine(own, tmp_path), [Request([], [], 0.7, 1.0, 4, 0)])
    assert own.chats[-1].body["messages"] == [{"role": "user", "content": ""}]


def test_a_last_character_that_came_in_part_is_left_out(own, tmp_path):
    own.well = Reply(body=chat_completion("Gut\N{REPLACEMENT CHARACTER}", finish_reason="length"))
    assert generate(ready_engine(own, tmp_path), [request()])[0].text == "Gut"


@pytest.mark.parametrize(("reason", "expected"), [("stop", "stop"), ("length", "length"), ("content_filter", "length")])
def test_an_answer_that_was_cut_off_is_told_from_one_that_ended(own, tmp_path, reason, expected):
    own.well = Reply(body=chat_completion(finish_reason=reason))
    [answer] = generate(ready_engine(own, tmp_path), [request()])
    assert answer.finish_reason == expected


@pytest.mark.parametrize(
    "fault",
    [
        BUSY,
        Reply(500, b"<html>oops", {"Content-Type": "text/html"}),
        Reply(408, {}),
        Reply(429, {"error": {"message": "slow down"}}),
        Reply(body=b'{"choices": [{"mess'),
        Reply(reset_after=20),
        Reply(reset_after=0),
        Reply(headers={"Content-Length": "9999"}, reset_after=20),
        Reply(delay=20.0),
        Reply(byte_seconds=0.2),
    ],
    ids=[
        "503",
        "500",
        "408",
        "429",
        "garbage",
        "reset in the answer",
        "reset before the answer",
        "answer cut short",
        "silence",
        "trickle",
    ],
)
def test_a_fault_that_passes_is_got_over(own, tmp_path, fault):
    slow = fault.delay or fault.byte_seconds
    engine = ready_engine(own, tmp_path, answer_seconds=1.0 if slow else 60.0, retry_seconds=20.0)
    before = len(own.chats)
    own.script.extend([fault, fault])
    answers = generate(engine, [request(seed) for seed in range(3)])
    assert [answer.text for answer in answers] == ["Fine."] * 3
    assert len(own.chats) - before == 5
    assert len((tmp_path / "openai.log").read_text().splitlines()) == 2


@pytest.mark.parametrize("dated", [False, True])
def test_nothing_is_asked_before_the_time_that_a_busy_server_names(own, tmp_path, dated):
    engine = ready_engine(own, tmp_path, max_sequences=4, retry_seconds=10.0)
    wait = formatdate(time.time() + 2, usegmt=True) if dated else "1"
    own.script.append(Reply(429, {}, {"Retry-After": wait}))
    own.well = Reply(delay=0.1)
    asked_before = len(own.chats)
    generate(engine, [request(seed) for seed in range(12)])
    times = [asked.at for asked in own.chats[asked_before:]]
    assert len(times) == 13
    refused, under_way, later = times[0], times[1:4], times[4:]
    assert max(under_way) - refused < 0.9
    # A date has no fractions of a second, so two seconds may be one and a bit.
    assert min(later) - refused >= 0.95


def test_a_server_that_asks_for_more_patience_than_there_is_ends_the_work_at_once(own, tmp_path):
    engine = ready_engine(own, tmp_path)
    own.script.append(Reply(429, {"error": {"message": "quota"}}, {"Retry-After": "3600"}))
    with pytest.raises(JobError, match=r"HTTP 429: “quota”, to be asked again after 3600 s\. Resume the run once"):
        generate(engine, [request()])


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (Reply(400, {"error": {"message": "bad field"}}), r"answered HTTP 400: “bad field”\.$"),
        (Reply(401, {"error": "Unauthorized"}), r"HTTP 401: “Unauthorized”\. Set HONE_OPENAI_API_KEY"),
        (Reply(403, {"detail": "not yours"}), r"HTTP 403: “not yours”\. Set HONE_OPENAI_API_KEY"),
        (Reply(404, {"message": "no such model"}), r"“no such model”\. Set HONE_OPENAI_MODEL .* there: served\.$"),
        (
            Reply(307, b"", {"Location": "http://10.0.0.1/"}),
            r"HTTP 307: “http://10.0.0.1/”\. HONE_OPENAI_BASE_URL must",
        ),
        (Reply(body=b"<p>Hello", headers={"Content-Type": "text/html"}), r"answered text/html and no JSON: “<p>Hello”"),
        (Reply(body={"error": {"message": "x"}}), r"no chat completion \(choices: Field required\)"),
        (Reply(body=chat_completion(finish_reason="tool_calls")), r"no chat completion \(choices\.0\.finish_reason"),
    ],
)
def test_what_waiting_does_not_mend_is_said_at_once_and_asked_once(own, tmp_path, reply, sentence):
    engine = ready_engine(own, tmp_path)
    own.script.append(reply)
    before = len(own.chats)
    with pytest.raises(JobError, match=sentence) as raised:
        generate(engine, [request()])
    assert str(raised.value).startswith(f"{own.base_url}/chat/completions answered")
    assert len(own.chats) == before + 1


def test_a_server_that_stays_away_is_given_up_after_the_budget_with_what_to_do(own, tmp_path):
    engine = ready_engine(own, tmp_path)
    own.well = BUSY
    began = time.monotonic()
    with pytest.raises(JobError) as raised:
        generate(engine, [request(seed) for seed in range(20)])
    assert 0.4 < time.monotonic() - began < 10
    assert "HTTP 503: “overloaded”. Resume the run once the server answers" in str(raised.value)


def test_an_address_where_nobody_listens_is_named_with_the_setting(tmp_path, monkeypatch):
    address = f"http://127.0.0.1:{free_port()}/v1"
    monkeypatch.setenv("HONE_OPENAI_BASE_URL", address)
    engine = start_engine(config(address, retry_seconds=0.2), tmp_path, tmp_path / "log")
    with pytest.raises(JobError, match=f"^{address}/models gave no usable .* is HONE_OPENAI_BASE_URL its address\\?$"):
        engine.wait_until_ready()


def test_a_spelling_that_no_client_takes_is_refused_with_a_sentence(tmp_path):
    engine = start_engine(config("http://0177.0.0.1/v1"), tmp_path, tmp_path / "log")
    with pytest.raises(JobError, match=r"^http://0177\.0\.0\.1/v1/models is no address: .*IPv4"):
        engine.wait_until_ready()


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_does_not_list_its_models_is_asked_all_the_same(own, tmp_path, status):
    own.models = Reply(status, {})
    assert generate(ready_engine(own, tmp_path), [request()])[0].text == "Fine."


def test_no_more_requests_are_under_way_than_the_limit(own, tmp_path):
    engine = ready_engine(own, tmp_path, max_sequences=8)
    own.well = Reply(delay=1.5)
    assert len(generate(engine, [request(seed) for seed in range(16)])) == 16
    assert own.most_at_once == 8


def test_answers_come_as_they_are_whole_and_not_all_at_the_end(own, tmp_path):
    engine = ready_engine(own, tmp_path, max_sequences=2)
    own.script.extend([Reply(delay=3.0, body=chat_completion("slow")), Reply(body=chat_completion("fast"))])
    began = time.monotonic()
    stream = engine.stream([request(0), request(1)])
    [(first, answer), arrived] = [next(stream), time.monotonic() - began]
    assert answer.text == "fast"
    assert arrived < 2.8
    assert [index for index, _ in stream] == [1 - first]


def test_whoever_waits_hears_what_is_in_the_way_and_can_leave_at_once(own, tmp_path, monkeypatch):
    monkeypatch.setattr("policy.engines.openai.WAIT_SECONDS", 0.1)
    engine = ready_engine(own, tmp_path, answer_seconds=60.0, retry_seconds=60.0)
    own.script.append(BUSY)
    own.well = Reply(delay=30.0)
    heard = []

    def stop(trouble: str) -> None:
        heard.append(trouble)
        if len(heard) == 3:
            raise Stopped

    began = time.monotonic()
    with pytest.raises(Stopped):
        list(engine.stream([request()], stop))
    assert time.monotonic() - began < 10
    assert "HTTP 503: “overloaded”; trying again in" in heard[-1]


@pytest.mark.parametrize("where", ["a refusal", "a fault"])
def test_the_key_is_struck_out_of_what_a_server_says(own, tmp_path, where):
    engine = ready_engine(own, tmp_path)
    own.well = Reply(401 if where == "a refusal" else 500, {"error": {"message": f"Incorrect API key: {KEY}"}})
    with pytest.raises(JobError, match=r"Incorrect API key: \[the key\]") as raised:
        generate(engine, [request()])
    log = tmp_path / "openai.log"
    assert KEY not in str(raised.value) + repr(vars(raised.value)) + (log.read_text() if log.exists() else "")


@pytest.mark.parametrize("key", ["two words", "sk-\nx", "schlüssel"])
def test_what_cannot_be_a_key_is_refused_without_being_repeated(own, tmp_path, monkeypatch, key):
    monkeypatch.setenv("HONE_OPENAI_API_KEY", key)
    with pytest.raises(JobError, match="HONE_OPENAI_API_KEY is no key") as raised:
        ready_engine(own, tmp_path)
    assert key not in str(raised.value)


def test_an_address_that_is_not_the_sites_own_gets_no_key_and_is_not_reached_inside(own, tmp_path, monkeypatch):
    monkeypatch.setenv("HONE_OPENAI_BASE_URL", "https://elsewhere.example/v1")
    with pytest.raises(JobError, match=r"127\.0\.0\.1 stands for 127\.0\.0\.1, which is not in the public Internet"):
        ready_engine(own, tmp_path)
    assert own.asked == []
    monkeypatch.setenv("HONE_PRIVATE_NETWORKS", "10.0.0.0/8, 127.0.0.1/32")
    ready_engine(own, tmp_path)
    assert own.asked
    assert not any("Authorization" in asked.headers for asked in own.asked)


def test_ppo_refuses_a_server_whatever_it_offers(own, openai_engine, tmp_path):
    lacks = "PPO cannot learn from the engine openai, which does not offer"
    with pytest.raises(JobError, match=f"{lacks} token ids, nor log-probabilities of .*, nor a change of weights"):
        check_for_ppo(ready_engine(own, tmp_path))
    openai_engine.wait_until_ready()
    with pytest.raises(JobError, match=f"{lacks} a change of weights after each update: use the engine vllm"):
        check_for_ppo(openai_engine)


def test_logprobs_that_leave_the_sampling_out_are_not_taken(own, tmp_path):
    """A server in vLLM's default mode tells the model's own probabilities, below 1 even in a nucleus of one token."""
    own.models = Reply(body={"data": [{"id": "served", "owned_by": "vllm"}], "version": "0.32.0"})
    told = {"token_ids": [5], "logprobs": {"content": [{"token": "a", "logprob": -0.7}]}}
    own.well = Reply(body=chat_completion(**told))
    engine = ready_engine(own, tmp_path)
    assert engine.version == "vllm 0.32.0: served"
    assert (engine.capabilities.token_ids, engine.capabilities.logprobs) == (True, False)
    generate(engine, [request()])
    assert [asked.body["logprobs"] for asked in own.chats] == [True, False]
    assert own.chats[-1].body["top_k"] == 0


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("", "must be of the form https://host/v1"),
        ("ftp://host/v1", "must be of the form"),
        ("https:///v1", "must be of the form"),
        ("https://host:port/v1", "must be of the form"),
        (f"https://user:{KEY}@host/v1", "holds no name, password or query"),
        (f"https://host/v1?key={KEY}", "holds no name, password or query"),
    ],
)
def test_an_address_that_cannot_be_one_or_holds_a_secret_is_refused_unrepeated(address, sentence):
    with pytest.raises(JobError, match=sentence) as raised:
        config(address)
    assert KEY not in str(raised.value)


def test_jobs_that_need_weights_are_refused_for_a_server():
    engine = config("http://server/v1")
    GenerateJob(model="m", generation=0, samples=1, engine=engine)
    with pytest.raises(JobError, match="Generation 1 is not at the server http://server/v1, which answers for generat"):
        GenerateJob(model="m", generation=1, samples=1, engine=engine)
    with pytest.raises(JobError, match=r"The generations to compare are not at the server .* HONE_ENGINE=vllm"):
        EvaluateJob(models=[], engine=engine)
    with pytest.raises(JobError, match="A policy in training is not at the server"):
        ImproveJob(policy="p", reward_model="r", engine=engine)


def test_a_job_answers_through_a_server_and_leaves_the_key_nowhere(own, tiny_model, tmp_path):
    own.script.append(Reply())
    own.script.append(Reply(500, {"error": {"message": f"{KEY} was not lucky"}}))
    job = GenerateJob(
        model=str(tiny_model), generation=0, samples=2, sampling=Sampling(max_tokens=8), engine=config(own.base_url)
    )
    run_dir = write_run(tmp_path / "run", "generate", job, [(f"p{i}", "train", "Hello") for i in range(3)])
    with open_run(run_dir, 1) as run:
        main(run)
    result = json.loads((run_dir / "result.json").read_text())
    assert result["completions"] == 6
    assert result["versions"] == {"openai": "127.0.0.1: served"}
    assert result["metrics"]["generations"][0]["logprob_per_token"] is None
    assert "was not lucky" in (run_dir / "attempt-1" / "openai.log").read_text()
    written = b"".join(path.read_bytes() for path in run_dir.rglob("*") if path.is_file())
    assert KEY.encode() not in written


def test_a_job_is_stopped_while_its_server_hangs(own, tiny_model, tmp_path):
    own.script.append(Reply())
    own.well = Reply(delay=60.0)
    job = GenerateJob(model=str(tiny_model), generation=0, samples=1, engine=config(own.base_url, retry_seconds=60.0))
    run_dir = write_run(tmp_path / "run", "generate", job, [("p", "train", "Hello")])

    def stop_when_asked() -> None:
        while len(own.chats) < 2:
            time.sleep(0.02)
        (run_dir / "stop").touch()

    stopper = threading.Thread(target=stop_when_asked)
    stopper.start()
    began = time.monotonic()
    with open_run(run_dir, 1) as run, pytest.raises(Stopped):
        main(run)
    stopper.join()
    assert time.monotonic() - began < 30
    assert "load" in {line["stage"] for line in progress_of(run_dir)}
