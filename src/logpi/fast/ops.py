"""The elementwise operations that a program is made of, by number; no torch, for kernels are compiled without it."""

UNARY = ("neg", "exp", "log", "expm1", "log1p", "sqrt", "square", "abs", "tanh", "sigmoid", "detach", "sign", "same")
BINARY = ("add", "sub", "mul", "div", "minimum", "maximum", "gt", "ge", "lt", "le", "eq")
OPS = {name: code for code, name in enumerate((*UNARY, *BINARY, "where"))}
