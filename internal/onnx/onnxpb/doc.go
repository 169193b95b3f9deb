// Package onnxpb is the generated Go form of the ONNX protobuf schema,
// onnx.proto of ONNX 1.23.2. It holds no code of its own.
package onnxpb

//go:generate sh -c "protoc --go_out=. --go_opt=paths=source_relative,Monnx.proto=starling/internal/onnx/onnxpb onnx.proto && mv onnx.pb.go gen_onnx.pb.go"
