"""One realistic document of every kind; ``python -m tests.format.examples`` writes the fixtures from them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from modeldrop.format.channel import Channel, Envelope, Move, Wanted, serialize_channel
from modeldrop.format.deltas import BaseDeltas, DeltaIndex, FileDelta, delta_path, serialize_delta_index
from modeldrop.format.golden import (
    ExampleStep,
    Golden,
    GoldenCase,
    GoldenChain,
    GoldenExample,
    GoldenStep,
    KnownArray,
    StepOutput,
    TensorValue,
)
from modeldrop.format.json_fields import dump
from modeldrop.format.manifest import (
    Fidelity,
    File,
    Graph,
    Manifest,
    OriginalModel,
    Provenance,
    SourceInfo,
    Speed,
    Tensor,
    Variant,
    WorstInput,
    manifest_digest,
    piece_count,
    serialize_manifest,
)
from modeldrop.format.policy import Policy, serialize_policy
from modeldrop.format.recipe import Recipe
from modeldrop.format.records import (
    BuildRecord,
    Claim,
    Rejection,
    Retirement,
    Seal,
    TestedMark,
    serialize_build_record,
    serialize_claim,
    serialize_rejection,
    serialize_retirement,
    serialize_seal,
    serialize_tested,
)
from modeldrop.format.signed import (
    CHANNEL_TYPE,
    SIGNED_MOVE,
    STATEMENT,
    STATEMENT_TYPE,
    BuildIdentity,
    SignedMove,
    Statement,
    Subject,
    serialize_envelope,
)
from modeldrop.format.variants import DEFAULT_VARIANTS

FIXTURES = Path(__file__).parents[1] / "fixtures" / "format" / "v1"

_PIECE_SIZE = 16 << 20
_RUN = "https://github.com/acme/search/actions/runs/11902455871"
_COMMIT = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
_IDENTITY = f"hf:sentence-transformers/all-MiniLM-L6-v2@{_COMMIT}"
_RECIPE = Recipe(task="feature-extraction", variants=DEFAULT_VARIANTS, thresholds={"int8": {"cosine_min": 0.95}})
_BUILD_KEY = "9d1f6a0c4b7e25838e60cf12ab94d7735f0e1c8a6b42d39f7785ce310a94bd26"
_SHARED = ("config.json", "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.txt")
_SIZES = {
    "config.json": 612,
    "onnx/model.onnx": 90_387_630,
    "onnx/model_quantized.onnx": 23_026_053,
    "special_tokens_map.json": 112,
    "tokenizer.json": 466_247,
    "tokenizer_config.json": 350,
    "vocab.txt": 231_508,
}
_IDS = ("input_ids", "attention_mask", "token_type_ids")


def manifest() -> Manifest:
    """A sentence encoder in two variants."""
    return Manifest(
        build_key=_BUILD_KEY,
        epoch=1,
        task="feature-extraction",
        architecture="BertModel",
        recipe=_RECIPE,
        source=SourceInfo(
            identity=_IDENTITY,
            repository="sentence-transformers/all-MiniLM-L6-v2",
            commit=_COMMIT,
            licence="apache-2.0",
        ),
        provenance=Provenance(
            created="2026-11-20T09:41:07Z",
            repository="https://github.com/acme/search",
            commit="5f0c2a7d8e1b4930c6a5d2e7f81b3c4d9e6a7f05",
            run=_RUN,
            actor="dana",
        ),
        toolchain={
            "modeldrop": "0.1.0",
            "onnx": "1.19.1",
            "onnxruntime": "1.23.2",
            "optimum": "2.1.0",
            "python": "3.11.7",
            "torch": "2.13.0",
            "transformers": "4.57.3",
        },
        machine="AMD EPYC 9V74, 4 CPUs, avx512_vnni, Linux 6.8",
        files=tuple(_file(path, size) for path, size in _SIZES.items()),
        variants=(_fp32(), _int8()),
        original=OriginalModel("PyTorch 2.13.0", 90_868_376, Speed(5.6, 123.0)),
        golden=_golden(),
        max_length=256,
        piece_size=_PIECE_SIZE,
    )


def manifest_of_graphs() -> Manifest:
    """A translator: an encoder and a decoder, proven on a chain of runs."""
    encoder, decoder = "onnx/encoder_model.onnx", "onnx/decoder_model_merged.onnx"
    ids, hidden = Tensor("input_ids", "int64", ("batch", "sequence")), ("batch", "sequence", "512")
    past = Tensor("past_key_values.0.decoder.key", "float", ("batch", "6", "past_sequence", "64"))
    first, second = StepOutput(0, "last_hidden_state"), StepOutput(1, "present.0.decoder.key")
    chain = GoldenChain(
        text="translate English to German: good night",
        steps=(
            GoldenStep("encoder_model", {"input_ids": TensorValue("int64", (1, 3), (13959, 1566, 1))}),
            GoldenStep(
                "decoder_model_merged",
                {
                    "input_ids": TensorValue("int64", (1, 1), (0,)),
                    "encoder_hidden_states": first,
                    "past_key_values.0.decoder.key": TensorValue("float32", (1, 6, 0, 64), ()),
                    "bias": TensorValue("float32", (1, 4), (0.5, -0.25), (1, 2)),
                },
            ),
            GoldenStep(
                "decoder_model_merged",
                {
                    "input_ids": TensorValue("int64", (1, 1), (2244,)),
                    "encoder_hidden_states": first,
                    "past_key_values.0.decoder.key": second,
                    "bias": TensorValue("float32", (1, 4), (0.5, -0.25), (1, 2)),
                },
            ),
        ),
        outputs=(StepOutput(1, "logits"), StepOutput(2, "logits")),
        at=(1, 2244, 7001),
        shape=(2, 3),
        values=(-3.25, 11.5, 9.0, 4.75, 1.5, 12.125),
        targets=(1, 2),
        begin=0,
    )
    fp32 = _fp32()._replace(
        model=encoder,
        files=(encoder, decoder, *_SHARED),
        inputs=(ids,),
        outputs=(Tensor("last_hidden_state", "float", hidden),),
        role="encoder_model",
        others=(
            Graph(
                "decoder_model_merged",
                decoder,
                (ids, Tensor("encoder_hidden_states", "float", hidden), past),
                (Tensor("logits", "float", ("batch", "sequence", "32128")),),
            ),
        ),
    )
    shared = tuple(_file(path, _SIZES[path]) for path in _SHARED)
    return manifest()._replace(
        task="text2text-generation",
        architecture="T5ForConditionalGeneration",
        recipe=Recipe(task="text2text-generation", variants=("fp32",)),
        files=(_file(encoder, 141_000_000), _file(decoder, 233_000_000), *shared),
        variants=(fp32,),
        golden=Golden("logits", (), {"fp32": {"cosine_min": 0.9999999, "greedy_prefix": 1.0}}, (chain,)),
    )


def manifest_of_any_graphs() -> Manifest:
    """Two graphs of no known task, with strings, a number without dimensions and an output that is not kept whole."""
    detect, read = "onnx/detect.onnx", "onnx/read.onnx"
    names, rate = Tensor("names", "string", ("n", "2"), ("first", "last")), Tensor("rate", "int64", ())
    scores = Tensor("scores", "sequence(map(int64, float32))", ())
    known = GoldenExample(
        "row 1 of rows.csv",
        (
            ExampleStep(
                "detect",
                {"names": KnownArray("string", (2,), texts=("Ada", "")), "rate": KnownArray("int64", (), (1 << 62,))},
                {
                    "scores": KnownArray("float32", (2, 2), texts=("nan", "0.5", "-inf", "1.0")),
                    "y": KnownArray("float64", (4096,), (0.5, 0.25), every=2048),
                },
            ),
            ExampleStep(
                "read",
                {"x": KnownArray("uint8", (1, 4), (7, 9), grid=(1, 2))},
                {"label": KnownArray("int64", (1,), (3,))},
            ),
        ),
    )
    fp32 = _fp32()._replace(
        model=detect,
        files=(detect, read, "labels.txt"),
        inputs=(names, rate),
        outputs=(scores, Tensor("y", "float64", ("...",))),
        role="detect",
        others=(Graph("read", read, (Tensor("x", "uint8", ("?", "4")),), (Tensor("label", "int64", ("?",)),)),),
    )
    return manifest()._replace(
        task="generic",
        architecture="ONNX",
        recipe=Recipe(task="generic", variants=("fp32",), files=("labels.txt",)),
        files=(_file(detect, 2_400_000), _file(read, 7_700_000), _file("labels.txt", 620)),
        variants=(fp32,),
        golden=Golden("scores", (), {"fp32": {"label_agreement": 1.0, "rel_error": 0.0}}, examples=(known,)),
    )


def channel() -> Channel:
    """A channel after a publish, another one and a rollback."""
    digests = (f"sha256:{_hex('v1')}", manifest_digest(serialize_manifest(manifest())))
    first = Move(
        version=1,
        digest=digests[0],
        generation=1,
        nonce="6b1f0c52a97e4d38",
        action="publish",
        by="github:dana",
        at="2026-11-18T08:00:12Z",
    )
    second = Move(
        version=2,
        digest=digests[1],
        generation=2,
        nonce="e0d94a7715c2f863",
        action="publish",
        by="github:dana",
        at="2026-11-20T09:44:51Z",
    )
    third = Move(
        version=1,
        digest=digests[0],
        generation=3,
        nonce="37a8be016cf4d295",
        action="rollback",
        by="ops@acme.example",
        at="2026-11-20T11:02:30Z",
        why="recall fell on «größere Anfragen» 🔎",
    )
    return Channel(third, (second, first))


def channel_wanted() -> Channel:
    """The same, written by a release that remembers what a publish has wanted."""
    wanted = Wanted(build_key=_BUILD_KEY, at="2026-11-20T09:38:55Z", run=_RUN, generation=2)
    return channel()._replace(wanted=wanted)


def _sign(payload_type: str, payload: bytes) -> Envelope:
    # Here, so that the other examples need no library.
    from modeldrop.registry.signing import KeySigner, read_keys
    from tests.helpers.signing import secret

    return KeySigner(read_keys(secret(1, 2), "the examples"), None).sign(payload_type, payload)


def channel_signed() -> Channel:
    """The same, signed by two keys, and expiring."""
    unsigned = channel_wanted()
    move = SignedMove(
        model="embedder",
        channel="current",
        version=unsigned.version,
        digest=unsigned.present.digest,
        generation=unsigned.generation,
        nonce=unsigned.present.nonce,
        at=unsigned.present.at,
        expires="2026-12-01T00:00:00Z",
    )
    return unsigned._replace(signed=_sign(CHANNEL_TYPE, dump(SIGNED_MOVE.write(move))))


def signed_statement() -> Statement:
    """That the manifest above is what a run has built."""
    return Statement(
        subject=(Subject("embedder", channel().present.digest.removeprefix("sha256:")),),
        model="embedder",
        build=BuildIdentity(
            repository="https://github.com/acme/search",
            workflow="acme/search/.github/workflows/models.yml@refs/heads/main",
            commit="5f0c2a7d8e1b4930c6a5d2e7f81b3c4d9e6a7f05",
            run=_RUN,
        ),
        at="2026-11-20T09:41:30Z",
    )


def statement() -> Envelope:
    """The same, signed."""
    return _sign(STATEMENT_TYPE, dump(STATEMENT.write(signed_statement())))


def claim() -> Claim:
    """The claim of the manifest's version."""
    return Claim(nonce="e0d94a7715c2f863", build_key=_BUILD_KEY, by="github:dana", run=_RUN, at="2026-11-20T09:40:02Z")


def build_record() -> BuildRecord:
    """The record that names it."""
    return BuildRecord(2, "e0d94a7715c2f863", "2026-11-20T09:44:40Z")


def rejection() -> Rejection:
    """The mark of a version that failed its acceptance test."""
    return Rejection("2026-11-20T09:46:15Z", "github:dana", _RUN, "its test ended with exit code 1")


def tested() -> TestedMark:
    """The mark of a version that passed it."""
    return TestedMark(channel().present.digest, "2026-11-20T09:46:15Z", "github:dana", _RUN)


def policy() -> Policy:
    """What a registry requires of what production names."""
    from tests.helpers.signing import public

    return Policy(
        require=("signature", "attestation", "test"),
        at="2026-11-20T09:00:00Z",
        by="dana",
        channels=("current",),
        trust=(public(1), public(2)),
        threshold=1,
        attested_by="acme/search,ref=refs/heads/main",
    )


def delta_index() -> DeltaIndex:
    """What v42 can be made of: of v41, whose int8 graph is a little smaller, but for its last piece."""
    graph = next(file for file in manifest().files if file.path == "onnx/model_quantized.onnx")
    lengths = (*(4321 for _ in graph.pieces[1:]), 0)
    base = f"sha256:{_hex('the manifest of v41')}"
    stored = _file(delta_path(base, graph.path), sum(lengths))
    file = FileDelta(
        path=graph.path,
        base_size=graph.size - 64,
        base_sha256=_hex("the int8 graph of v41"),
        stored=stored,
        lengths=lengths,
    )
    return DeltaIndex((BaseDeltas(base, (file,)),), _PIECE_SIZE)


def retirement() -> Retirement:
    """The mark of a version that is about to go."""
    return Retirement("2026-12-24T03:00:00Z", "github:dana", "not among the newest 5, older than 30 days")


def seal() -> Seal:
    """What is left of it a day later."""
    return Seal("2026-12-25T03:00:01Z", "github:dana", "not among the newest 5, older than 30 days")


def undecided_seal() -> Seal:
    """The same while the manifest may still be put back."""
    return Seal("2026-12-25T03:00:00Z", "github:dana", seal().why, serialize_manifest(manifest()).decode())


def documents() -> dict[str, bytes]:
    """Every fixture's file name, and its bytes."""
    return {
        "manifest.json": serialize_manifest(manifest()),
        "manifest-graphs.json": serialize_manifest(manifest_of_graphs()),
        "manifest-generic.json": serialize_manifest(manifest_of_any_graphs()),
        "channel.json": serialize_channel(channel()),
        "channel-wanted.json": serialize_channel(channel_wanted()),
        "channel-signed.json": serialize_channel(channel_signed()),
        "statement.json": serialize_envelope(statement()),
        "claim.json": serialize_claim(claim()),
        "build.json": serialize_build_record(build_record()),
        "rejected.json": serialize_rejection(rejection()),
        "tested.json": serialize_tested(tested()),
        "deltas.json": serialize_delta_index(delta_index()),
        "policy.json": serialize_policy(policy()),
        "retired.json": serialize_retirement(retirement()),
        "seal.json": serialize_seal(seal()),
        "seal-undecided.json": serialize_seal(undecided_seal()),
    }


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _file(path: str, size: int) -> File:
    pieces = tuple(_hex(f"{path}#{index}") for index in range(piece_count(size, _PIECE_SIZE)))
    return File(path, size, _hex(path), pieces)


def _tensors() -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    inputs = tuple(Tensor(name, "int64", ("batch", "sequence")) for name in _IDS)
    return inputs, (Tensor("last_hidden_state", "float32", ("batch", "sequence", "384")),)


def _fp32() -> Variant:
    inputs, outputs = _tensors()
    return Variant(
        name="fp32",
        model="onnx/model.onnx",
        files=("onnx/model.onnx", *_SHARED),
        opset=17,
        ir_version=8,
        min_onnxruntime="1.14",
        inputs=inputs,
        outputs=outputs,
        fidelity=Fidelity(
            metrics={"cosine_mean": 1.0, "cosine_min": 0.9999999, "max_abs": 1.9e-06},
            thresholds={"cosine_mean": 0.99999, "cosine_min": 0.9999, "max_abs": 0.001},
            worst={"cosine_min": WorstInput("¿Dónde puedo cambiar mi contraseña?", 0.9999999)},
            texts=128,
        ),
        speed=Speed(2.6, 121.0),
    )


def _int8() -> Variant:
    inputs, outputs = _tensors()
    return Variant(
        name="int8",
        model="onnx/model_quantized.onnx",
        files=("onnx/model_quantized.onnx", *_SHARED),
        opset=17,
        ir_version=8,
        min_onnxruntime="1.14",
        inputs=inputs,
        outputs=outputs,
        fidelity=Fidelity(
            metrics={"cosine_mean": 0.9905, "cosine_min": 0.9704, "max_abs": 0.0503},
            thresholds={"cosine_mean": 0.98, "cosine_min": 0.95},
            worst={
                "cosine_min": WorstInput("شحن الطلب تأخر ثلاثة أيام", 0.9704),
                "max_abs": WorstInput('if (a < b && b > c) { return <br/>; }  // 100 % "quoted"', 0.0503),
            },
            texts=128,
        ),
        speed=Speed(1.8, 53.0),
    )


def _golden() -> Golden:
    cases = (
        GoldenCase(
            text="How do I reset my password?",
            inputs={
                "input_ids": (101, 2129, 2079, 1045, 25141, 2026, 20786, 1029, 102),
                "attention_mask": (1,) * 9,
                "token_type_ids": (0,) * 9,
            },
            values=(0.0517843, -0.2314907, 0.1190325, 0.4410228, -0.0037162, 0.0883514),
        ),
        GoldenCase(
            text="größere Anfragen 🔎",
            inputs={
                "input_ids": (101, 24665, 2891, 8043, 2019, 27843, 6914, 100, 102),
                "attention_mask": (1,) * 9,
                "token_type_ids": (0,) * 9,
            },
            values=(-0.1180456, 0.0240191, 0.3019874, -0.0712035, 0.1502733, -0.2099181),
        ),
    )
    return Golden(
        output="last_hidden_state",
        cases=cases,
        metrics={"fp32": {"cosine_min": 0.9999999}, "int8": {"cosine_min": 0.9871}},
    )


if __name__ == "__main__":
    FIXTURES.mkdir(parents=True, exist_ok=True)
    for name, data in documents().items():
        (FIXTURES / name).write_bytes(data)
