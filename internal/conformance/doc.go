// Package conformance has no code of its own: its tests, tagged check, run the
// test cases of ONNX one by one through decoder, rewrites and engine, and compare
// what happens with testdata/manifest.txt.
package conformance
