// Package oippb is the generated Go form of the messages of the Open Inference
// Protocol, version 2, over gRPC. It holds no code of its own.
package oippb

//go:generate sh -c "protoc --go_out=. --go_opt=paths=source_relative,Moip.proto=starling/internal/serve/oippb oip.proto && mv oip.pb.go gen_oip.pb.go"
