"""Specs as the CRD lets them in, for Hypothesis."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,14}[a-z0-9])?", fullmatch=True)
MIB = 1024**2


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any of the fields, or none."""
    return st.fixed_dictionaries({}, optional=fields)


SIZES = st.one_of(st.sampled_from(["8Mi", "1Gi", "16Mi"]), st.integers(5 * MIB, 1024 * MIB))
RULES = st.fixed_dictionaries(
    {
        "subjects": st.lists(
            st.one_of(
                st.fixed_dictionaries(
                    {"kind": st.just("ServiceAccount"), "name": NAMES}, optional={"namespace": NAMES}
                ),
                st.fixed_dictionaries({"kind": st.sampled_from(["User", "Group"]), "name": NAMES}),
            ),
            min_size=1,
            max_size=3,
        ),
        "verbs": st.lists(st.sampled_from(["upload", "download", "list", "delete"]), min_size=1, unique=True),
        "prefixes": st.lists(
            st.sampled_from(["", "a/", "{namespace}/", "b/{serviceAccount}/"]), min_size=1, unique=True
        ),
    },
    optional={"maxObjectSize": SIZES},
)

CREDENTIALS = st.one_of(
    st.just({"type": "WorkloadIdentity"}),
    st.fixed_dictionaries(
        {
            "type": st.just("Secret"),
            "secretRef": st.fixed_dictionaries(
                {"name": NAMES},
                optional={"accessKeyIDKey": NAMES, "secretAccessKeyKey": NAMES, "sessionTokenKey": NAMES},
            ),
        }
    ),
)

S3 = st.fixed_dictionaries(
    {
        "bucket": st.from_regex(r"[a-z0-9][a-z0-9-]{1,20}[a-z0-9]", fullmatch=True),
        "endpoint": st.sampled_from(["http://store:8333", "https://s3.example.com"]),
        "credentials": CREDENTIALS,
    },
    optional={
        "provider": st.sampled_from(["AWS", "Ceph", "MinIO", "Generic"]),
        "region": st.sampled_from(["us-east-1", "eu-1"]),
        "publicEndpoint": st.just("https://public.example.com"),
        "addressingStyle": st.sampled_from(["Auto", "Path", "Virtual"]),
        "caBundleRef": st.fixed_dictionaries({"kind": st.sampled_from(["ConfigMap", "Secret"]), "name": NAMES}),
    },
)

CORS = st.sampled_from([{}, {"allowedOrigins": []}, {"allowedOrigins": ["*"]}])
SCHEDULING = _some(
    nodeSelector=st.dictionaries(NAMES, NAMES, max_size=2),
    tolerations=st.lists(st.just({"key": "a", "operator": "Exists"}), max_size=1),
    affinity=st.just({"nodeAffinity": {}}),
    topologySpread=st.sampled_from(["Soft", "None"]),
)

SPECS = st.fixed_dictionaries(
    {
        "storage": st.fixed_dictionaries(
            {"type": st.just("S3"), "s3": S3},
            optional={
                "prefix": st.sampled_from(["", "tenant/"]),
                "management": st.sampled_from(["Create", "Adopt", "Observe"]),
                "takeOver": st.just("0" * 32),
                "abortIncompleteAfterDays": st.integers(1, 365),
                "cors": CORS,
            },
        )
    },
    optional={
        "upload": _some(
            partSize=SIZES,
            maxObjectSize=SIZES,
            urlTTL=st.sampled_from(["10s", "90s", "15m"]),
            sessionTTL=st.sampled_from(["15m", "24h", "1h30m", "168h"]),
            allowedContentTypes=st.lists(st.just("image/png"), max_size=1),
        ),
        "instantUpload": _some(scope=st.sampled_from(["Owner", "Bucket", "Disabled"]), minSize=st.just("1Mi")),
        "integrity": _some(mode=st.sampled_from(["Enforced", "Unverified"])),
        "download": _some(urlTTL=st.sampled_from(["10s", "12h"]), disposition=st.sampled_from(["Attach", "Inline"])),
        "auth": st.just({"serviceAccounts": {"validation": "JWKS"}}),
        "access": st.lists(st.tuples(NAMES, RULES), max_size=2, unique_by=lambda each: each[0]).map(
            lambda rules: [{"name": name, **rule} for name, rule in rules]
        ),
        "api": _some(
            replicas=st.integers(1, 3),
            serviceAccountName=NAMES,
            resources=st.sampled_from([{}, {"requests": {"cpu": "1"}}]),
            tls=st.just({"secretName": "tls"}),
            limits=_some(openUploadsPerOwner=st.integers(1, 10_000), requestsPerSecond=st.just(1)),
            cors=CORS,
            scheduling=SCHEDULING,
        ),
        "deletionPolicy": st.sampled_from(["Retain", "Delete"]),
    },
)
