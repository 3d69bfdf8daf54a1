"""The settings files that the demo writes, like those people write for a real consortium."""

from __future__ import annotations

from typing import Final

STUDY_TEMPLATE: Final = """\
# The public manifest of the study: every site and the coordinator hold the same file.
name = "{name}"
rounds = {rounds}

[base]
digest = "{digest}"
source = "tiny"

[adapter]
targets = {targets}
rank = 1
alpha = 1.0

[training]
sampling_rate = {sampling_rate}       # q: each patient enters a step with this probability
steps = {steps}                  # local DP-SGD steps per round
tiles_per_patient = 1      # k
draws_per_tile = 1         # m: (t, noise) draws per tile, averaged before clipping
clipping_norm = {clipping_norm}
noise_multiplier = {noise_multiplier}
optimizer = "adam"
learning_rate = {learning_rate}

[privacy]
delta = {delta}
attempts = {attempts}               # a round in which a hospital drops out is tried once more

[aggregation]
strategy = "fedavg"
secure_aggregation = "required" # the coordinator sees only the sum over the hospitals

[secure_aggregation]
roster = "{roster}"
bound = {bound}             # the largest coordinate of a weighted, rotated update
bits = 16                  # of a packed coordinate
exchange_deadline = 120.0  # seconds; here, everybody shares one machine

[cohort]
min_sites = {min_sites}              # only a few hospitals may be missing from a sum
round_deadline = 600.0
reply_slot = {reply_slot}        # seconds: an update leaves then or never, so longer than training

{sites}
[samples]
prompts = {prompts}
seeds = [11, 12]
"""

POOLED_STUDY_TEMPLATE: Final = """\
# The public manifest of the study: every site and the coordinator hold the same file.
name = "{name}"
rounds = {rounds}                 # steps: each is one sum over all patients of all hospitals

[base]
digest = "{digest}"
source = "tiny"

[adapter]
targets = {targets}
rank = 1
alpha = 1.0
frozen_a = true            # half as many numbers to be noised

[training]
sampling_rate = 1.0        # q: every patient is in every step
steps = 1
tiles_per_patient = 1      # k
draws_per_tile = 1         # m: (t, noise) draws per tile, averaged before clipping
clipping_norm = {clipping_norm}
noise_multiplier = {noise_multiplier}

[privacy]
mechanism = "pooled"       # each hospital adds a share of one noise, under masks
delta = {delta}
noise_colluders = {noise_colluders}        # so many hospitals may tell the coordinator their share

[pooled]
parameters = {parameters}
grid = {grid}
spare_attempts = {spare_attempts}         # of all steps: one that a hospital misses is lost
session_hours = 2.0
coordinator_key = "{coordinator_key}"

[chosen]
clipping_norm = "rehearsal: synthetic tissue of other patients"
learning_rate = "rehearsal: synthetic tissue of other patients"
adapter = "rehearsal: synthetic tissue of other patients"
rounds = "rehearsal: synthetic tissue of other patients"
reply_slot = "public data: the speed of this machine"

[aggregation]
strategy = "adam"          # of the opened mean, with the noise's share taken off
learning_rate = {learning_rate}
beta2 = 0.95
secure_aggregation = "required" # the coordinator sees only the sum over the hospitals

[secure_aggregation]
roster = "{roster}"
exchange_deadline = 120.0  # seconds; here, everybody shares one machine

[cohort]
min_sites = {min_sites}              # only a few hospitals may be missing from a sum
round_deadline = 600.0
reply_slot = {reply_slot}        # seconds: a vector leaves then or never, so longer than training

{sites}
[samples]
prompts = {prompts}
seeds = [11, 12]
"""

POLICY_TEMPLATE: Final = """\
# What this hospital allows. There is no default budget.
epsilon = {epsilon}         # of its patients, for their lifetime
delta = {delta}
study_epsilon = {epsilon}   # of this study
studies = ["{study}"]
bases = ["{base}"]
mechanisms = ["{mechanism}"]     # {who_adds}
secure_aggregation = "required" # the coordinator sees only the sum over the hospitals
roster = "{roster}"
# THIS IS A DEMO. No hospital should allow a slot as short as this one: the duration of training
# reveals who was drawn, and only a slot longer than any training hides it. On this machine, with
# synthetic patients or few of them, nobody wants to wait for the default of 60 s and more.
min_reply_slot = {reply_slot}
"""

SITE_TEMPLATE: Final = """\
name = "{name}"
study = {study}
policy = "policy.toml"

[data]
folder = {data}
patient_ids_confirmed = true            # the demo has looked at them

[agent]
state = "state"
socket = {socket}

[identity]
key = "site.key"
roster = "roster.cfl"

[gateway]
kind = "{kind}"
superlink = "{superlink}"
root_certificates = {authority}
key = "supernode.key"
home = "gateway"
"""

CONSORTIUM_TEMPLATE: Final = """\
study = "../study.toml"
roster = "roster.cfl"
coordinator_key = "coordinator.key"
state = "state"
join_deadline = 120.0

[superlink]
host = "127.0.0.1"
port = {port}
folder = "superlink"
authority = "tls/ca.pem"
certificate = "tls/server.pem"
key = "tls/server.key"
secret = "superexec.secret"
"""

QUALITY_TEMPLATE: Final = """
[quality]
folders = {folders}
public = true              # synthetic patients, on whom nobody trains
every = {every}
tiles = {tiles}                # at most: a few seconds of one core for each figure
judge = {judge}   # that the pictures obey their captions; no site trains with it
images = {images}                # drawn for each figure of that
pictures = true            # of the study's prompts, for the demo's page
"""
