"""Specs that stress what the examples leave out, all of class G or D.

Each value is the text of a spec. Names and ranges of inputs tell the drawing in `harness` what to put there: vectors
`k*`, `a`, `p` are unit keys, what is `<= 0` log gates, `beta*` write strengths; everything else is normal.
"""

SPECS = {}


def _spec(text: str) -> None:
    SPECS[text.split("(")[0].split()[1]] = text


# -- gates: how many, where, of what kind ------------------------------------------------------------------------------

_spec("""flow several_gates(K, V)
input q, k : K; input v : V; input g1, g2 : scalar <= 0; input g3 : K <= 0
state S : K x V
S[t] = exp(g1) * S[t-1]
S[t] = S[t] + k @ (v - S[t].T @ k).T
S[t] = diag(exp(g3)) @ S[t]
S[t] = S[t] + q @ v.T
S[t] = exp(g2) * S[t]
o[t] = S[t].T @ q
""")

_spec("""flow gate_of_a_norm(K, V)
input q, k : K; input v : V; input z : K
state S : K x V
S[t] = (norm(z) + 0.1) / (norm(z) + 0.5) * S[t-1] + k @ (v - S[t-1].T @ k).T
o[t] = S[t].T @ q
""")

_spec("""flow gate_after_write(K, V)
input q, k : K; input v : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g) * (S[t-1] + k @ v.T)
o[t] = S[t].T @ q
""")

_spec("""flow gate_after_read(K, V)
input q, k : K; input v : V; input g : K <= 0; input beta : scalar in (0, 1)
state S : K x V
S[t] = S[t-1] + beta * k @ (v - S[t-1].T @ k).T
S[t] = diag(exp(g)) @ S[t]
o[t] = S[t].T @ q
""")

_spec("""flow gates_in_repeat(K, V, R)
input q : K; input k : R of K; input v : R of V; input beta : R of scalar
input g : R of scalar <= 0; input g0 : scalar <= 0
state S : K x V
S[t] = exp(g0) * S[t-1]
repeat r in R:
    S[t] = exp(g[r]) * S[t]
    S[t] = S[t] + beta[r] * k[r] @ (v[r] - S[t].T @ k[r]).T
o[t] = S[t].T @ q
""")

_spec("""flow key_gates_in_repeat(K, V, R)
input q : K; input k : R of K; input v : R of V; input g : R of K <= 0
state S : K x V
S[t] = S[t-1]
repeat r in R:
    S[t] = S[t] + k[r] @ v[r].T
    S[t] = diag(exp(g[r])) @ S[t]
    S[t] = S[t] - k[r] @ (S[t].T @ k[r]).T
o[t] = S[t].T @ q
""")

_spec("""flow param_gate(K, V)
input q, k : K; input v : V; input x : scalar; param rate : K; param w : scalar
state S : K x V
let gamma = sigmoid(w * x)**(1 / 4)
S[t] = gamma * diag(sigmoid(rate)) @ S[t-1] + (1 - gamma) * k @ v.T
o[t] = S[t].T @ q
""")

_spec("""flow bounded_gate(K, V)
input q, k : K; input v : V; input x : K
state S : K x V
let low = clamp(x, 0.1, 0.9)
S[t] = diag(low) @ S[t-1] + (1 - low) * k @ v.T
S[t] = where(sum(x) < 0, 0.5, 0.75) * S[t]
o[t] = S[t].T @ q
""")

_spec("""flow compared(K, V)
input q, k : K; input v : V; input y : scalar; param x : scalar
state S : K x V
S[t] = S[t-1] + where(y < x, 0.25, 0.5) * k @ v.T
o[t] = S[t].T @ q
""")

_spec("""flow negative_free_gate(K, V)
input q, k : K; input v : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g) / 2 * S[t-1] + sqrt(1 + g * g) * k @ v.T
o[t] = rsqrt(1 + g * g) * (S[t].T @ q)
""")

_spec("""flow growing(K, V)
input q, k : K; input v : V; input g : scalar <= 0
state S : K x V
S[t] = exp(-0.01 * g) * S[t-1] + k @ v.T
o[t] = S[t].T @ q
""")

# -- masks: which write a read sees ------------------------------------------------------------------------------------

_spec("""flow mixed_masks(K, V)
input q, k1, k2, k3 : K; input v1, v2 : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g) * S[t-1]
S[t] = S[t] + k1 @ (v1 - S[t].T @ k1).T
S[t] = S[t] + k2 @ (v2 - S[t-1].T @ k2).T - 0.5 * k3 @ (S[t].T @ k3).T
o[t] = S[t].T @ q
""")

_spec("""flow two_repeats(K, V, R, P)
input q : K; input k : R of K; input v : R of V; input kb : P of K; input vb : P of V; input g : K <= 0
state S : K x V
S[t] = S[t-1]
repeat r in R:
    S[t] = S[t] + k[r] @ (v[r] - S[t].T @ k[r]).T
S[t] = diag(exp(g)) @ S[t]
repeat p in P:
    S[t] = S[t] + 0.5 * kb[p] @ (vb[p] - S[t].T @ kb[p] - S[t-1].T @ q).T
o[t] = S[t].T @ q
""")

_spec("""flow outputs_everywhere(K, V)
param before_weight : scalar; input q, k : K; input v : V; input g : K <= 0; input beta : scalar in (0, 1)
state S : K x V
before[t] = S[t-1].T @ q
S[t] = diag(exp(g)) @ S[t-1]
gated[t] = S[t].T @ q + before_weight * v
S[t] = S[t] + beta * k @ (v - S[t].T @ k).T
o[t] = S[t].T @ q - S[t-1].T @ k
""")

_spec("""flow held_reads(K, V)
input q, k, p : K; input v : V; input g : scalar <= 0
state S : K x V
let seen = S[t-1].T @ p
S[t] = exp(g) * S[t-1] + k @ (v - seen).T
let after = S[t].T @ q
S[t] = S[t] - 0.3 * p @ seen.T
o[t] = after + 2 * seen
""")

_spec("""flow ranks_and_writes(K, V, R)
input q, k, a, p : K; input A, B : K x R; input W : V x R; input v : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g) * S[t-1]
S[t] = (I + B @ A.T) @ S[t] + B @ W.T + k @ v.T + a @ (S[t].T @ p).T
o[t] = S[t].T @ q
""")

_spec("""flow two_ranks(K, V, R, P)
input q : K; input A, B : K x R; input C, D : K x P; input W : V x P; input g : K <= 0
state S : K x V
S[t] = diag(exp(g)) @ (S[t-1] - A @ B.T @ S[t-1])
S[t] = S[t] + C @ (W - S[t].T @ D).T
o[t] = S[t].T @ q
""")

_spec("""flow rank_of_one_vector(K, V, R = 1)
input q : K; input A : K x R; input W : V x R
state S : K x V
S[t] = S[t-1] + A @ (W - S[t-1].T @ A).T
o[t] = S[t].T @ q
""")

# -- outputs: nonlinear, scalar, matrices, several reads ---------------------------------------------------------------

_spec("""flow epilogue(K, V)
input q, k : K; input v, x : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g) * S[t-1] + k @ v.T
o[t] = silu(S[t].T @ q) * sigmoid(x)
y[t] = rmsnorm(S[t].T @ q, eps=0.001) + l2norm(S[t-1].T @ k, eps=0.01)
""")

_spec("""flow scalar_output(K, V)
input q, k : K; input v, p : V; input beta : scalar in (0, 1)
state S : K x V
S[t] = S[t-1] + beta * k @ (v - S[t-1].T @ k).T
o[t] = q.T @ S[t] @ p
y[t] = norm(S[t].T @ q + p) + sum(S[t].T @ k) + max(q.T @ k, 0)
""")

_spec("""flow matrix_output(K, V, M)
input Q : K x M; input k : K; input v : V; input g : K <= 0
state S : K x V
S[t] = diag(exp(g)) @ S[t-1] + k @ v.T
o[t] = S[t].T @ Q
y[t] = Q.T @ S[t] + Q.T @ k @ v.T
""")

_spec("""flow equal_outputs(K, V, M)
input Q : K x M; input k : K; input v : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g) * S[t-1] + k @ v.T
o[t] = Q.T @ S[t]
y[t] = Q.T @ S[t]
""")

_spec("""flow product_of_reads(K, V)
input q, k, p : K; input v : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g) * S[t-1] + k @ v.T
o[t] = (S[t].T @ q) * (S[t].T @ p) + softmax(S[t-1].T @ q)
y[t] = (q.T @ S[t] @ S[t].T @ p) * v
""")

_spec("""flow normalised(K, V)
input q, k : K; input v : V; input g : K <= 0
state S : K x V
S[t] = diag(exp(g)) @ S[t-1] + k @ v.T
o[t] = (S[t].T @ softmax(q)) / max(abs(sum(S[t].T @ k)), 1)
""")

_spec("""flow small_denominators(K, V)
input q, k, x : K; input v : V; input beta : scalar in (0, 1)
state S : K x V
let n = l2norm(k, eps=1e-24)
S[t] = S[t-1] + beta * n @ (v - S[t-1].T @ n).T
S[t] = S[t] + (beta / (sum(x * x) + 1e-20)) * x @ v.T
o[t] = S[t].T @ q / sqrt(sum(q * q) + 1e-24)
""")  # cleared of its fractions a denominator would overflow in float32

_spec("""flow length_of_nothing(K, V)
input q, k : K; input v : V; input beta : scalar in (0, 1)
state S : K x V
o[t] = S[t-1].T @ q / (1 + norm(S[t-1].T @ q))
S[t] = S[t-1] + beta * k @ (v - S[t-1].T @ k).T
""")  # the first token reads zeros, where the gradient of their length is 0

_spec("""flow number_of_one(K, V, R = 1)
input q : K; input k : R of K; input v : V
state S : K x V
S[t] = S[t-1]
repeat r in R:
    S[t] = S[t] + (1 + r) / (R + 1) * k[r] @ (v - S[t].T @ k[r]).T
o[t] = S[t].T @ q
""")  # the number of a token's only row

# -- preludes ----------------------------------------------------------------------------------------------------------

_spec("""flow prelude(K, V)
input q, k : K; input v : V; input b, x : scalar; param w : K
state S : K x V
let key = l2norm(silu(w * k))
let query = rmsnorm(q) / sqrt(K)
let beta = 2 * sigmoid(b)
let decay = -exp(0.1 * b) * softplus(x)
S[t] = exp(decay) * S[t-1]
S[t] = S[t] + beta * key @ (tanh(v) - S[t].T @ key).T
o[t] = S[t].T @ query
""")

_spec("""flow features(K, V)
input q, k : K; input v : V
state S : 1 + K + K*K x V
let fq = concat(ones(1), concat(q, kron(q, q) / sqrt(2)))
let fk = concat(ones(1), concat(k, kron(k, k) / sqrt(2)))
S[t] = S[t-1] + fk @ v.T
o[t] = (S[t].T @ fq) / (1 + q.T @ q)
""")

_spec("""flow doubled(K, V)
input q, k : K; input v : V; input g : K <= 0; input beta : scalar in (0, 1)
state S : 2 * K x V
let key = concat(softmax(k), softmax(-k))
let gate = concat(g, 2 * g)
S[t] = diag(exp(gate)) @ S[t-1]
S[t] = S[t] + beta * key @ (v - S[t].T @ key).T
o[t] = S[t].T @ concat(q, zeros(K))
""")

_spec("""flow mixed_scalars(K, V)
input q, k : K; input v : V; input x : scalar
state S : K x V
let overlap = q.T @ k / (1 + norm(k))
let m = outer(k, q) @ q
S[t] = 0.9 * S[t-1] + overlap * m @ (v / norm(v)).T
o[t] = S[t].T @ (q + overlap * diag(k) @ (I + k @ k.T) @ q) + x
""")

# -- lists, sizes, numbers ---------------------------------------------------------------------------------------------

_spec("""flow by_hand(K, V, R = 3)
input q : K; input k : R of K; input v : R of V; input beta : R of scalar
state S : K x V
S[t] = S[t-1] + beta[0] * k[0] @ (v[0] - S[t-1].T @ k[0]).T
S[t] = S[t] + beta[2] * k[2] @ (v[1] - S[t].T @ k[2]).T
o[t] = S[t].T @ q
""")

_spec("""flow constants(K, V, R = 2, tau = 16, low = 0.25, high = 1e-3)
input q, k : K; input v : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g / tau) * S[t-1] + low * k @ v.T + high / R * q @ v.T
o[t] = S[t].T @ q
""")

_spec("""flow square(K)
input q, k, p : K; input g : K <= 0; input beta : scalar in (0, 1)
state S : K x K
S[t] = diag(exp(g)) @ S[t-1]
S[t] = S[t] + beta * k @ (p - S[t].T @ k).T + 0.1 * k @ k.T
o[t] = S[t].T @ q + k
""")

_spec("""flow started(K, V)
input q, k : K; input v : V; input g : scalar <= 0; input beta : scalar in (0, 1)
state S : K x V = 0.5
S[t] = exp(g) * S[t-1]
S[t] = S[t] + beta * k @ (v - S[t].T @ k).T
o[t] = S[t].T @ q
""")

_spec("""flow counted(K, V, R)
input q : K; input k : R of K; input v : R of V; input g : scalar <= 0
state S : K x V
S[t] = exp(g) * S[t-1]
repeat r in R:
    let weight = (1 + r) / (R + 1)
    S[t] = S[t] + weight * k[r] @ (v[r] - S[t].T @ k[r]).T + exp(-r) * k[r] @ v[r].T
o[t] = S[t].T @ q / K
""")

_spec("""flow by_head(K, V)
input q, k : K; input v : V; param u : K
state S : K x V
let gamma = exp(-(head + 1) / (2 * heads))
S[t] = gamma * S[t-1] + (1 + head) * k @ v.T
o[t] = S[t].T @ (q + head * u) + where(head > 0, 1, -1) * v
""")

_spec("""flow shared_vector(K, V, R)
input q, k : K; input v : R of V; input beta : R of scalar
state S : K x V
S[t] = S[t-1]
repeat r in R:
    S[t] = S[t] + beta[r] * k @ (v[r] - S[t].T @ k).T
o[t] = S[t].T @ q
""")

_spec("""flow read_then_write(K, V, R)
input q : K; input A : R of K; input W : R of V; input k : R of K
state S : K x V
S[t] = S[t-1]
repeat r in R:
    S[t] = 0.9 * S[t] - k[r] @ (S[t].T @ k[r]).T + A[r] @ W[r].T
o[t] = S[t].T @ q
""")

_spec("""flow param_matrix(K, V, M)
input q, k : M; input v : V; param P : K x M; input g : scalar <= 0
state S : K x V
let key = P @ k
S[t] = exp(g) * S[t-1] + key @ (v - S[t-1].T @ (key / (1 + key.T @ key))).T
o[t] = S[t].T @ P @ q
""")

_spec("""flow unread_value(K, V)
input q, k : K; input v : V; input x : V; input y : scalar
state S : K x V
S[t] = S[t-1] + k @ v.T
o[t] = x * y
""")

_spec("""flow erase_only(K, V)
input q, k : K; input v : V; input g : K <= 0
state S : K x V = 1
S[t] = diag(exp(g)) @ S[t-1] - k @ (S[t-1].T @ k).T
o[t] = S[t].T @ q + v
""")

# -- the value side: gates, reads, outputs -----------------------------------------------------------------------------

_spec("""flow outer_gates(K, V)
input q, k : K; input v : V; input g : scalar <= 0; input ga : K <= 0; input gb, gc : V <= 0
state S : K x V
S[t] = exp(g) * outer(exp(ga), exp(gb)) * S[t-1]
S[t] = S[t] + k @ v.T
S[t] = S[t] @ diag(exp(gc))
o[t] = S[t].T @ q
before[t] = S[t-1].T @ k
""")

_spec("""flow value_gates_in_repeat(K, V, R)
input q : K; input k : R of K; input v : R of V; input g0 : V <= 0; input g : R of V <= 0; input ga : K <= 0
state S : K x V
S[t] = S[t-1] @ diag(exp(g0))
repeat r in R:
    S[t] = S[t] + k[r] @ v[r].T
    S[t] = S[t] @ diag(exp(g[r]))
S[t] = diag(exp(ga)) @ S[t]
o[t] = S[t].T @ q
""")

_spec("""flow value_gate_and_rank(K, V, R)
input q : K; input A : K x R; input W : V x R; input g : scalar <= 0; input gb : V <= 0
state S : K x V
S[t] = exp(g) * S[t-1] + A @ W.T
S[t] = S[t] @ diag(sigmoid(gb)) - 0.5 * q @ (W @ ones(R)).T
o[t] = S[t].T @ q
""")

_spec("""flow value_gate_of_a_param(K, V)
input q, k : K; input v : V; input x : scalar; param rate : V; param slow : scalar
state S : K x V
S[t] = sigmoid(slow * x)**(1 / 4) * S[t-1] @ diag(sigmoid(rate)) + k @ ((1 - sigmoid(rate)) * v).T
o[t] = S[t] @ v + S[t-1] @ (v * v)
""")

_spec("""flow both_sides_of_an_outer_gate(K, V, M)
input q, k : K; input v, p : V; input P : V x M; input ga : K <= 0; input gb : V <= 0
state S : K x V
o[t] = S[t-1] @ p
S[t] = outer(exp(ga), exp(gb)) * S[t-1]
S[t] = S[t] + k @ v.T
y[t] = S[t].T @ q + 0.5 * S[t].T @ k
z[t] = S[t] @ P
""")

_spec("""flow both_sides_of_key_reads(K, V)
input q, k : K; input v, p : V; input g : K <= 0; input beta : scalar in (0, 1)
state S : K x V
S[t] = diag(exp(g)) @ S[t-1]
o[t] = S[t] @ p
S[t] = S[t] + beta * k @ (v - S[t].T @ k).T + q @ p.T
y[t] = S[t].T @ q
z[t] = 2 * (S[t] @ v) + S[t-1] @ p
""")

_spec("""flow value_output_of_a_scalar_gate(K, V)
input q, k : K; input v, p : V; input g : scalar <= 0; input beta : scalar in (0, 1)
state S : K x V
S[t] = exp(g) * S[t-1]
S[t] = S[t] + beta * k @ (v - S[t].T @ k).T
o[t] = S[t] @ p
y[t] = S[t] @ v
""")

_spec("""flow oja_of_rank(K, V, R)
input q : K; input A, B : V x R; input W : K x R; input k : K; input v : V; input g : V <= 0
state S : K x V
S[t] = S[t-1] @ diag(exp(g))
S[t] = S[t] @ (I - 0.5 * A @ B.T) + W @ B.T + k @ v.T
o[t] = S[t].T @ q
""")

_spec("""flow oja_in_repeat(K, V, R)
input q : K; input kv : R of V; input k : R of K; input beta : R of scalar
input g : R of V <= 0; input g0 : scalar <= 0
state S : K x V
S[t] = exp(g0) * S[t-1]
repeat r in R:
    S[t] = S[t] @ diag(exp(g[r]))
    S[t] = S[t] + beta[r] * (k[r] - S[t] @ kv[r]) @ kv[r].T
o[t] = S[t].T @ q
""")

_spec("""flow oja_everywhere(K, V)
input q, k : K; input v, p, kv : V; input g : scalar <= 0; input gb : V <= 0; input beta : scalar in (0, 1)
state S : K x V = 0.25
before[t] = S[t-1].T @ q + S[t-1].T @ k
let held = S[t-1] @ kv
S[t] = exp(g) * S[t-1] @ diag(exp(gb)) + beta * (k - held) @ kv.T
o[t] = S[t] @ p + held
S[t] = S[t] - 0.5 * (S[t] @ p) @ kv.T + k @ v.T
y[t] = S[t].T @ q
S[t] = S[t] @ diag(exp(gb))
z[t] = (q.T @ S[t] @ v) * k + S[t] @ (S[t].T @ k)
""")

_spec("""flow oja_of_a_scalar_gate(K, V)
input q, k : K; input kv : V; input g : scalar <= 0; input beta : scalar in (0, 1)
state S : K x V
S[t] = exp(g) * S[t-1]
S[t] = S[t] + beta * (k - S[t] @ kv) @ kv.T
o[t] = S[t].T @ q
y[t] = S[t] @ kv
""")

_spec("""flow square_oja(K)
input q, k, p : K; input g : K <= 0; input beta : scalar in (0, 1)
state S : K x K
S[t] = S[t-1] @ diag(exp(g))
S[t] = S[t] + beta * (p - S[t] @ k) @ k.T
o[t] = S[t].T @ q + S[t] @ p
""")

_spec("""flow repeat_of_two(K, V, R)
input q : K; input k : R of K; input v : R of V; input beta : R of scalar in (0, 1); input g : scalar <= 0
state S : K x V; state n : K
S[t] = exp(g) * S[t-1]
n[t] = exp(g) * n[t-1]
repeat j in R:
    S[t] = S[t] + beta[j] * k[j] @ (v[j] - S[t].T @ k[j]).T
    n[t] = n[t] + beta[j] * k[j]
o[t] = (n[t].T @ q) * (S[t].T @ q)
""")

_spec("""flow states_in_turn(K, V)
input q, k : K; input v : V; input g : K <= 0; input b : scalar; param w : V; param u : K
state m : V = -inf; state n : K; state S : K x V; state Z : K x V
m[t] = max(m[t-1] - softplus(w), v)
n[t] = diag(exp(g)) @ n[t-1] + k
let s = n[t].T @ q
S[t] = diag(exp(g)) @ S[t-1] - 0.3 * k @ (S[t-1].T @ k).T + k @ (v * exp(v - m[t])).T
let r = S[t].T @ q / (1 + abs(s))
Z[t] = sigmoid(b) * Z[t-1] + (k * sigmoid(u)) @ (r * w).T
o[t] = Z[t].T @ q + r
y[t] = s + sum(Z[t] @ v)
""")

_spec("""flow scan_of_a_read(K, V)
input q, k : K; input v : V; input x : V; param c : scalar
state z : V = -inf; state a : scalar; state S, unread : K x V
z[t] = log(exp(z[t-1] - softplus(c)) + exp(x))
unread[t] = 0.5 * unread[t-1] + k @ x.T
a[t] = sigmoid(c) * a[t-1] + sum(exp(x - z[t]))
S[t] = exp(-softplus(a[t])) * S[t-1] + k @ v.T
o[t] = S[t].T @ q / (1 + a[t-1])
""")

_spec("""flow vector_alone(K)
input x, y : K; input g : K <= 0
state z : K
z[t] = diag(exp(g)) @ z[t-1] + x
o[t] = z[t].T @ y
""")

_spec("""flow read_of_its_own_read(K, V)
input q, k, x : K; input v, w : V; input g : scalar <= 0
state S, E : K x V
S[t] = exp(g) * S[t-1] + x @ w.T
E[t] = E[t-1] + (k * sum(S[t].T @ q)) @ v.T
let inner = E[t-1] @ v
o[t] = S[t].T @ q + E[t].T @ inner
y[t] = E[t].T @ (inner * sum(w * (S[t].T @ k)))
""")

_spec("""flow normed_pairs(K, V)
input q, k : K; input v : V; input g : scalar <= 0
state S : 1 + K + K*K x V
let fq = concat(ones(1), concat(l2norm(q), kron(l2norm(q), q)))
let fk = concat(ones(1), concat(k, kron(l2norm(k), l2norm(k)) / 2))
S[t] = exp(g) * S[t-1] + fk @ v.T
o[t] = S[t].T @ fq
""")

_spec("""flow delta_of_pairs(K, V)
input q, k : K; input x : 2; input v : V; input g : scalar <= 0; input beta : scalar in (0, 1)
state S : 2*K x V
let fk = kron(l2norm(x), l2norm(k))
S[t] = exp(g) * S[t-1]
S[t] = S[t] + beta * fk @ (v - S[t].T @ fk).T
o[t] = S[t].T @ kron(x, q)
""")

_spec("""flow pairs_of_columns(K, V)
input q, k : K; input v : V; input w : 3
state S : K x 3*V
S[t] = S[t-1] + k @ kron(w, v).T
o[t] = S[t].T @ q
""")

_spec("""flow value_strength(K, V)
input q, k : K; input v : V; input g : V <= 0; input beta : V in (0, 1)
state S : K x V
S[t] = S[t-1] @ diag(exp(g))
S[t] = S[t] + k @ (beta * (v - S[t].T @ k)).T
o[t] = S[t].T @ q
""")

_spec("""flow dense_transition(K, V)
input q, k : K; input v : V; input A : K x K; param W : K x K
state S : K x V = 0.5
S[t] = 0.1 * (tanh(A) + W / (1 + norm(W))) @ S[t-1] / sqrt(K) + k @ v.T
o[t] = S[t].T @ q
y[t] = S[t-1] @ v + q
""")

_spec("""flow coupled_in_rounds(K)
input q, k, v : K; input g : scalar <= 0
state S : K x K
state n : K = 1
state c : scalar = -inf
repeat r in 2:
    let w = softmax(n[t-1]) * (r + 1)
    n[t] = w * (S[t-1].T @ k) / (1 + norm(S[t-1])) + k
c[t] = max(c[t-1] - 1, sum(k))
S[t] = 0.5 * exp(g) * S[t-1].T + l2norm(k) @ (S[t-1] @ l2norm(n[t]) * 0.1 + v).T * exp(sum(k) - c[t])
o[t] = S[t].T @ q + S[t-1] @ n[t] / (1 + norm(n[t-1]))
""")

_spec("""flow value_gates_in_rounds(K, V)
input q : K; input k : 3 of K; input v : 3 of V; input g : V <= 0; input beta : 3 of scalar in (0, 1)
state S : K x V
S[t] = S[t-1] @ diag(exp(g))
repeat r in 3:
    S[t] = S[t] + beta[r] * l2norm(k[r]) @ (v[r] - S[t].T @ l2norm(k[r])).T
o[t] = S[t].T @ q
""")

_spec("""flow squashed_features(K, V)
input q, k : K; input v : V
state S : K + K*K x V
let fk = concat(k, kron(k, l2norm(k)) / 2)
S[t] = tanh(S[t-1] + fk @ v.T)
o[t] = S[t].T @ concat(q, kron(q, k))
""")

_spec("""flow joined_reads(K, V)
input q, k : K; input v : V
state S : 2*K x V
let read = concat(k, q)
S[t] = tanh(S[t-1]) / 2 + concat(k, sum(tanh(S[t-1]) @ v) * q) @ v.T
o[t] = concat(S[t].T @ read, v)
p[t] = kron(S[t].T @ read, q)
""")

# what every block of columns has whole, what it has a part of, and elements of a list that are not used
_spec("""flow beside_columns(K, V)
input q : K; input k : 3 of K; input v : V; input a : scalar; param w : K
state S : K x V
state n : K = 0.5
n[t] = tanh(n[t-1] + k[1]) * w
S[t] = tanh(S[t-1] + n[t] @ v.T)
m[t] = n[t].T @ q + a
w_read[t] = S[t] @ v
o[t] = (S[t].T @ q) / (1 + abs(n[t].T @ q))
""")

_spec("""flow rows_alone(K, V)
input q, x : K; input v : V
state S : V x K
S[t] = tanh(S[t-1] - 0.1 * (S[t-1] @ x - v) @ x.T)
o[t] = S[t] @ q
""")

# scans alone: several kinds together, shifts, what is joined, summed and read of them, params beside tokens
_spec("""flow scans_together(K, V)
input x, f : K; input v : V; input a : scalar; param w, p : K; param c : V
state h, r : K
state m : V = -inf
state l : scalar = -inf
let g = sigmoid(f)
h[t] = g * h[t-1] + (1 - g) * x[t-1]
r[t] = exp(-softplus(w)) * r[t-1] + h[t-1] + p
m[t] = max(m[t-1] - 0.1, v + c)
l[t] = log(exp(l[t-1] - 1) + exp(a))
o[t] = concat(h[t], tanh(r[t])) * (1 + sum(l2norm(h[t] + x) * w))
y[t] = m[t] * exp(v - m[t]) + sum(p) + exp(l[t] - max(l[t], a))
z[t] = c
""")

_spec("""flow scans_in_blocks(V)
input x, f : V; input a, b : scalar; param w : V
state h : V
state z : scalar = 0.5
h[t] = sigmoid(f) * h[t-1] + x
z[t] = sigmoid(a) * z[t-1] + b
o[t] = h[t] * z[t-1] + w
s[t] = sum(h[t] * w) * z[t] + b
""")

# outputs that are the same for every token or entry
_spec("""flow constants_beside(V)
input v, a : V
state h : V
h[t] = a * h[t-1] + v
z[t] = 2 * ones(V)
y[t] = head * ones(V)
o[t] = h[t] * softmax(ones(V))
""")

# inputs that only the next token reads
_spec("""flow before_alone(K, V)
input q, k : K; input v : V; input g : scalar <= 0
state S : K x V
S[t] = exp(g[t-1]) * S[t-1] + k @ v[t-1].T
o[t] = S[t].T @ q
""")

_spec("""flow before_in_scans(V)
input x, a, b : V
state h : V
h[t] = sigmoid(a[t-1]) * h[t-1] + x * b[t-1]
o[t] = h[t]
""")

# a state that params set, and names that kernels have for other things
_spec("""flow set_from_params(V)
input x : V
param c : V
state x_h, S0, kept0_ptr : V
x_h[t] = tanh(x_h[t-1] + x)
o[t] = x_h[t] * S0[t-1] + kept0_ptr[t-1]
S0[t] = tanh(c)
kept0_ptr[t] = c
""")

# gates on both sides whose writes torch operators join, read on the other side as well
_spec("""flow both_gates_two_writes(K, V)
input q, k, k2 : K
input v, v2 : V
input ga : K <= 0
input gb : V <= 0
state S : K x V
S[t] = outer(exp(ga), exp(gb)) * S[t-1] + k @ v.T + k2 @ v2.T
o[t] = S[t].T @ q
p[t] = S[t-1] @ v
""")
