"""The intermediate representation: types, values, graphs, text."""

from qcompiler.ir.arithmetic import Arithmetic
from qcompiler.ir.block_array import BlockArray
from qcompiler.ir.builder import Builder
from qcompiler.ir.clone import clone
from qcompiler.ir.constant_array import ConstantArray
from qcompiler.ir.dimension import Dim, Shape, SymbolicDim
from qcompiler.ir.graph import Graph, Output, walk
from qcompiler.ir.listener import GraphListener, Remark
from qcompiler.ir.node import Node
from qcompiler.ir.op import (
    BLOCK_FORMS,
    OPS,
    BlockForm,
    Constants,
    Fact,
    Op,
    OpTypeError,
    Stored,
    Tensor,
    block_form,
    op,
    require,
)
from qcompiler.ir.parser import parse, parse_type, parse_with_names
from qcompiler.ir.printer import print_graph, print_node, print_with_constants, value_names
from qcompiler.ir.scalar import SCALARS, Scalar, scalar_of
from qcompiler.ir.storage import read_program, read_program_with_names, write_dump, write_program
from qcompiler.ir.structure import structural_hash
from qcompiler.ir.types import Affine, BlockFloat, TensorType
from qcompiler.ir.value import Origin, Original, Untraced, Value
from qcompiler.ir.verifier import verify

__all__ = [
    "BLOCK_FORMS",
    "OPS",
    "SCALARS",
    "Affine",
    "Arithmetic",
    "BlockArray",
    "BlockFloat",
    "BlockForm",
    "Builder",
    "ConstantArray",
    "Constants",
    "Dim",
    "Fact",
    "Graph",
    "GraphListener",
    "Node",
    "Op",
    "OpTypeError",
    "Origin",
    "Original",
    "Output",
    "Remark",
    "Scalar",
    "Shape",
    "Stored",
    "SymbolicDim",
    "Tensor",
    "TensorType",
    "Untraced",
    "Value",
    "block_form",
    "clone",
    "op",
    "parse",
    "parse_type",
    "parse_with_names",
    "print_graph",
    "print_node",
    "print_with_constants",
    "read_program",
    "read_program_with_names",
    "require",
    "scalar_of",
    "structural_hash",
    "value_names",
    "verify",
    "walk",
    "write_dump",
    "write_program",
]
