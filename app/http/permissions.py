"""Who may do what: one table, role by permission, and one, system by permission, for bindings.

Every route names its permission (`needs`, `admits`), and `app.main` refuses to start with one that does
not.
"""

from enum import Enum
from typing import Final


class Permission(Enum):
    """What a caller may be allowed to do."""

    READ = "read"
    RECORD_POLICIES = "policies:record"
    APPROVE_POLICIES = "policies:approve"
    ACTIVATE_POLICIES = "policies:activate"
    REGISTER_MODELS = "models:register"
    RECORD_ASSESSMENTS = "assessments:record"
    WITHDRAW_ASSESSMENTS = "assessments:withdraw"
    RECORD_SAFEGUARDS = "safeguards:record"
    SIGN_OFF = "sign-offs:record"
    REQUEST_EXCEPTIONS = "exceptions:request"
    APPROVE_EXCEPTIONS = "exceptions:approve"
    RECORD_ORDERS = "orders:record"
    FULFIL_OBLIGATIONS = "obligations:fulfil"
    DETERMINE = "determinations:make"
    SIMULATE = "simulations:run"
    SHADOW = "shadows:run"
    MANAGE_KEYS = "keys:manage"
    READ_DELIVERIES = "deliveries:read"


ROLES: Final = {
    "admin": frozenset(Permission),
    "policy-author": frozenset(
        {Permission.READ, Permission.RECORD_POLICIES, Permission.SIMULATE, Permission.SHADOW}
    ),
    "policy-approver": frozenset(
        {
            Permission.READ,
            Permission.APPROVE_POLICIES,
            Permission.ACTIVATE_POLICIES,
            Permission.FULFIL_OBLIGATIONS,
            Permission.SIMULATE,
        }
    ),
    "assessor": frozenset(
        {
            Permission.READ,
            Permission.REGISTER_MODELS,
            Permission.RECORD_ASSESSMENTS,
            Permission.WITHDRAW_ASSESSMENTS,
            Permission.REQUEST_EXCEPTIONS,
            Permission.SIMULATE,
        }
    ),
    "safeguards-owner": frozenset(
        {Permission.READ, Permission.RECORD_SAFEGUARDS, Permission.FULFIL_OBLIGATIONS}
    ),
    "approver": frozenset(
        {
            Permission.READ,
            Permission.SIGN_OFF,
            Permission.APPROVE_EXCEPTIONS,
            Permission.FULFIL_OBLIGATIONS,
        }
    ),
    "order-keeper": frozenset({Permission.READ, Permission.RECORD_ORDERS}),
    "orchestrator": frozenset({Permission.READ, Permission.DETERMINE}),
    "registry": frozenset({Permission.READ, Permission.REGISTER_MODELS}),
    "reader": frozenset({Permission.READ, Permission.SIMULATE}),
}
"""A caller holds roles, and may do what any of them may."""

SYSTEMS: Final = {
    "flagger": frozenset({Permission.DETERMINE}),
    "github": frozenset({Permission.DETERMINE}),
    "huggingface": frozenset({Permission.REGISTER_MODELS}),
    "kubernetes": frozenset({Permission.DETERMINE}),
    "mlflow": frozenset({Permission.REGISTER_MODELS}),
    "oci": frozenset({Permission.REGISTER_MODELS}),
    "promptlayer": frozenset({Permission.RECORD_ASSESSMENTS}),
    "wandb": frozenset({Permission.REGISTER_MODELS}),
}
"""What the bindings of a system may do: that, and nothing else, whatever the settings say."""


def permits(roles: frozenset[str], permission: Permission) -> bool:
    """Whether any of *roles* carries *permission*. A role that we do not know carries none."""
    return any(permission in ROLES.get(role, frozenset()) for role in roles)
