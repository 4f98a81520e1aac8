"""Native programs: kernels built as TVM's TIR, compiled by LLVM, linked into one shared or static library.

Nothing here imports ``tvm`` before a kernel is built: importing it takes over a second.
"""
