package kernel

// fma32 is a·b + c rounded once to float32 (IEEE 754-2019, 5.4.1). The language
// lets a compiler fuse this expression (Go specification, "Floating-point
// operators"), and Go's does on arm64, with FMADD; a test holds it to that. Not
// for constants alone: those it folds in two roundings.
func fma32(a, b, c float32) float32 { return a*b + c }
