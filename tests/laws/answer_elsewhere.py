"""Another process, with another hash seed: a situation a line in, the answer's SHA-256 a line out.

Run by `test_laws.py`; it knows nothing but the recorded bytes of what it is given.
"""

import json
import sys

from app.canonical import sha256_hex
from app.determination.decide import Question
from app.parsing import parse
from app.policy.language import policy_digest, recorded_policy
from app.policy.timeline import PolicyInForce
from app.vocabulary import TEXT, read_instant
from tests.laws.recording import evidence_of, recorded_determination
from tests.laws.situations import A_MODEL, Situation


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        said = json.loads(line)
        version = recorded_policy(said["policy"].encode())
        until = said["until"]
        in_force = PolicyInForce(
            version,
            policy_digest(version),
            version.effective,
            None if until is None else read_instant(until),
        )
        question = Question(
            said["model"]["model"], said["action"], version.policy, read_instant(said["at"])
        )
        pieces = [(id, digest, body) for id, digest, body in said["evidence"]]
        evidence = evidence_of(pieces, said["model"]["model"], said["others"])
        model = parse(A_MODEL, said["model"], TEXT)
        document = recorded_determination(Situation(in_force, model, evidence, question))
        sys.stdout.write(sha256_hex(document) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
