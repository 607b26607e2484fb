package iotcore

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/lambda"
	lambdatypes "github.com/aws/aws-sdk-go-v2/service/lambda/types"
)

// A group is a folder of --dir: no name may lead out of it, whoever gives it.
func TestNamesOfLogGroups(t *testing.T) {
	dir := t.TempDir()
	a := start(t, Config{Dir: dir}).account("admin", "us-east-1")
	groups := func() []string {
		var names []string
		for _, g := range must[*cloudwatchlogs.DescribeLogGroupsOutput](t)(a.logs.DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{})).LogGroups {
			names = append(names, *g.LogGroupName)
		}
		return names
	}
	for _, name := range []string{"..", ".", "a b", "ä", "a:b", strings.Repeat("x", 513)} {
		_, err := a.logs.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &name})
		refused(t, err, "InvalidParameterException", "at 'logGroupName' failed to satisfy constraint")
		_, err = a.logs.DeleteLogGroup(t.Context(), &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: &name})
		refused(t, err, "ResourceNotFoundException", "does not exist")
	}
	a.function(a.role(strings.ReplaceAll(logActions, "/aws/lambda/f:", "")), func(in *lambda.CreateFunctionInput) {
		in.LoggingConfig = &lambdatypes.LoggingConfig{LogGroup: aws.String("..")}
	})
	a.invoke(`{"do":"count"}`)
	if got := groups(); got != nil {
		t.Errorf("groups %q", got)
	}
	if _, err := os.Stat(filepath.Join(dir, serverCAFile)); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"...", "/aws/lambda/f-1_x.y#", "a/../b"} {
		must[*cloudwatchlogs.CreateLogGroupOutput](t)(a.logs.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &name}))
	}
	if got := groups(); len(got) != 3 {
		t.Errorf("groups %q", got)
	}
}

func TestLimitOfLogGroups(t *testing.T) {
	a := start(t, Config{}).account("admin", "us-east-1")
	for _, name := range []string{"a", "b"} {
		must[*cloudwatchlogs.CreateLogGroupOutput](t)(a.logs.CreateLogGroup(t.Context(), &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &name}))
	}
	for _, n := range []int32{-1, 0, 51} {
		_, err := a.logs.DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{Limit: &n})
		refused(t, err, "InvalidParameterException", "from 1 to 50")
	}
	out := must[*cloudwatchlogs.DescribeLogGroupsOutput](t)(a.logs.DescribeLogGroups(t.Context(), &cloudwatchlogs.DescribeLogGroupsInput{Limit: aws.Int32(1)}))
	if len(out.LogGroups) != 1 || aws.ToString(out.NextToken) != "a" {
		t.Errorf("%d groups, token %q", len(out.LogGroups), aws.ToString(out.NextToken))
	}
}
