// Package shard cuts a model's weights by plan, adds parity, and reads and
// writes the result: one file per worker with all its slices. A file says
// nothing of data or parity; whoever maps it sees rows of layers.
//
// # File format, version 3
//
// Numbers are little-endian, checksums CRC-32C (RFC 3720, appendix B.4).
//
//	byte 0            "STARSHRD"
//	     8            version, uint32
//	    12            zeros up to byte 64
//	    64            weights of the first slice, row-major [rows, cols], float32 or as "linear" says
//	     …            zeros up to a multiple of 64, then the next slice, and so on
//	     m            JSON: {"slices":[{"layer","nth","block","linear" or "stage","offset","crc"}…]}
//	size−24           length of the JSON, uint32
//	size−20           checksum of the JSON, uint32
//	size−16           size of the file, uint64
//	size−8            "STARSHRD"
//
// block is the number of rows in which the slice is computed and returned, the
// last ones may be fewer.
//
// A slice that is a whole stage has no "linear" and blocks of one row, but
//
//	"stage": {"opset", "input": type, "constants": [type…],
//	          "nodes": [{"op", "in", "out", "attrs"}…], "output": value}
//
// where a type is {"type","shape"}. Values have numbers: 0 is the input, then come
// the constants, then what nodes give; −1 is one that is left out. The constants are
// the slice's weights, one after the other, each at a multiple of 64. Attributes
// are {"int"}, {"ints"}, {"float"}, {"floats"}, {"string"} or {"strings"}, as the
// ONNX operator of the opset has them. A stage has at most 1 MiB of JSON, 16,384
// nodes, and 1 GiB of values beside its constants.
//
// The description stands behind the weights so that a file is written in one
// pass. A file's name is the SHA-256 of its bytes: a worker that kept its
// shard needs nothing sent when it returns.
package shard
