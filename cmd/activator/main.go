// Command activator is jitr-activator, the Lambda function that activates
// pending certificates (internal/activation). Its zip holds this program as
// "bootstrap", for the runtime provided.al2023:
//
//	CGO_ENABLED=0 go build -tags lambda.norpc -o bootstrap ./cmd/activator
//
// The Region, the credentials and, in front of the emulator, AWS_ENDPOINT_URL
// come from the environment as AWS gives them; ours is activation.Config.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/iot"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/jitr-agent/jitr-agent/internal/activation"
)

func main() {
	activator, err := setUp(context.Background())
	if err != nil {
		fmt.Fprintf(os.Stderr, "jitr-activator: %v\n", err)
		os.Exit(1) // Lambda reports it as Runtime.ExitError, with these lines in the log
	}
	lambda.StartHandlerFunc(activator.Handle)
}

func setUp(ctx context.Context) (*activation.Activator, error) {
	if err := activation.UnknownVariables(os.Environ()); err != nil {
		return nil, err
	}
	cfg, err := activation.FromEnvironment(os.Getenv)
	if err != nil {
		return nil, err
	}
	sdk, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration: %w", err)
	}
	return activation.New(cfg, iot.NewFromConfig(sdk, activation.ClientOptions), newLogger())
}

// newLogger writes a JSON object a line to stderr, which Lambda hands to
// CloudWatch Logs with a time and a request id of its own.
func newLogger() *zap.Logger {
	cfg := zap.NewProductionEncoderConfig()
	cfg.TimeKey, cfg.EncodeTime = "time", zapcore.RFC3339TimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(cfg), zapcore.Lock(os.Stderr), zap.InfoLevel))
}
