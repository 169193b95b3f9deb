// Package shard cuts a model's weights by plan, adds parity, and reads and
// writes the result: one file per worker with all its slices. A file says
// nothing of data or parity; whoever maps it sees rows of layers.
//
// # File format, version 2
//
// Numbers are little-endian, checksums CRC-32C (RFC 3720, appendix B.4).
//
//	byte 0            "STARSHRD"
//	     8            version, uint32
//	    12            zeros up to byte 64
//	    64            weights of the first slice, row-major [rows, cols], float32 or as "linear" says
//	     …            zeros up to a multiple of 64, then the next slice, and so on
//	     m            JSON: {"slices":[{"layer","nth","block","linear","offset","crc"}…]}
//	size−24           length of the JSON, uint32
//	size−20           checksum of the JSON, uint32
//	size−16           size of the file, uint64
//	size−8            "STARSHRD"
//
// block is the number of rows in which the slice is computed and returned, the
// last ones may be fewer.
//
// The description stands behind the weights so that a file is written in one
// pass. A file's name is the SHA-256 of its bytes: a worker that kept its
// shard needs nothing sent when it returns.
package shard
