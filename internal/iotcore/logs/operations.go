package logs

import (
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"
)

// Target begins the X-Amz-Target header of CloudWatch Logs (JSON 1.1).
const Target = "Logs_20140328"

// Operations are those of CloudWatch Logs.
func (s *Service) Operations() map[string]awsapi.Operation {
	byName := func(r *awsapi.Request) []string { return []string{s.ARN(groupOf(r)) + ":*"} }
	byARN := func(r *awsapi.Request) []string { return []string{r.Field("resourceArn")} }
	ops := map[string]awsapi.Operation{
		"DescribeLogGroups": {Handle: s.describeLogGroups},
		"TagResource":       {Resources: byARN, Handle: s.tagResource}, "UntagResource": {Resources: byARN, Handle: s.untagResource},
		"ListTagsForResource": {Resources: byARN, Handle: s.listTags},
	}
	for name, handle := range map[string]awsapi.Handler{
		"CreateLogGroup": s.createLogGroup, "DeleteLogGroup": s.deleteLogGroup,
		"PutRetentionPolicy": s.putRetentionPolicy, "DeleteRetentionPolicy": s.deleteRetentionPolicy,
		"DescribeLogStreams": s.describeLogStreams, "GetLogEvents": s.getLogEvents, "FilterLogEvents": s.filterLogEvents,
	} {
		ops[name] = awsapi.Operation{Resources: byName, Handle: handle}
	}
	for name, op := range ops {
		op.Action = "logs:" + name
		ops[name] = op
	}
	return ops
}

// groupOf is the group that a request names or identifies by its ARN.
func groupOf(r *awsapi.Request) string {
	if name := r.Field("logGroupName"); name != "" {
		return name
	}
	return nameOf(r.Field("logGroupIdentifier"))
}

// nameOf takes a log group's ARN apart; a name is given back as it is.
func nameOf(arn string) string {
	if _, name, ok := strings.Cut(arn, ":log-group:"); ok {
		return strings.TrimSuffix(name, ":*")
	}
	return arn
}

func invalid(format string, args ...any) error {
	return awsapi.Refuse(http.StatusBadRequest, "InvalidParameterException", format, args...)
}

func (s *Service) createLogGroup(r *awsapi.Request) (any, error) {
	var in struct {
		LogGroupName string
		Tags         map[string]string
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	return nil, s.Create(in.LogGroupName, in.Tags)
}

// change carries out f on a group.
func (s *Service) change(name string, f func(*group) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups[name]
	if !ok {
		return noGroup()
	}
	if err := f(g); err != nil {
		return err
	}
	s.changed()
	return nil
}

func (s *Service) deleteLogGroup(r *awsapi.Request) (any, error) {
	return nil, s.change(groupOf(r), func(g *group) error {
		delete(s.groups, g.Name)
		return os.RemoveAll(s.groupDir(g.Name))
	})
}

// retentions that AWS takes, in days (PutRetentionPolicy).
func retentions() []int {
	return []int{1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}
}

func (s *Service) putRetentionPolicy(r *awsapi.Request) (any, error) {
	var in struct{ RetentionInDays int }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	if !slices.Contains(retentions(), in.RetentionInDays) {
		return nil, invalid("retentionInDays %d is not one of %v", in.RetentionInDays, retentions())
	}
	return nil, s.change(groupOf(r), func(g *group) error {
		g.Retention = in.RetentionInDays
		return nil
	})
}

func (s *Service) deleteRetentionPolicy(r *awsapi.Request) (any, error) {
	return nil, s.change(groupOf(r), func(g *group) error {
		g.Retention = 0
		return nil
	})
}

// maxGroups of one answer, and how many there are if nobody asks for less
// (DescribeLogGroups).
const maxGroups = 50

func (s *Service) describeLogGroups(r *awsapi.Request) (any, error) {
	var in struct {
		LogGroupNamePrefix, NextToken string
		Limit                         *int
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	limit := maxGroups
	if in.Limit != nil {
		limit = *in.Limit
	}
	if limit < 1 || limit > maxGroups {
		return nil, invalid("1 validation error detected: Value '%d' at 'limit' failed to satisfy constraint: Member must have value from 1 to %d", limit, maxGroups)
	}
	type described struct {
		ARN          string `json:"arn"`
		LogGroupARN  string `json:"logGroupArn"`
		LogGroupName string `json:"logGroupName"`
		CreationTime int64  `json:"creationTime"`
		Retention    int    `json:"retentionInDays,omitempty"`
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	names := slices.DeleteFunc(slices.Sorted(maps.Keys(s.groups)), func(n string) bool { return !strings.HasPrefix(n, in.LogGroupNamePrefix) })
	names, next := awsapi.Page(names, in.NextToken, limit, func(n string) string { return n })
	list := []described{}
	for _, name := range names {
		g := s.groups[name]
		list = append(list, described{s.ARN(name) + ":*", s.ARN(name), name, g.CreatedAt.UnixMilli(), g.Retention})
	}
	out := map[string]any{"logGroups": list}
	if next != "" {
		out["nextToken"] = next
	}
	return out, nil
}

func (s *Service) describeLogStreams(r *awsapi.Request) (any, error) {
	name := groupOf(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	streams, err := s.streams(name)
	if err != nil {
		return nil, err
	}
	list := []map[string]any{}
	for _, stream := range streams {
		one := map[string]any{"logStreamName": stream, "arn": s.ARN(name) + ":log-stream:" + stream}
		if events, err := s.events(name, stream); err == nil && len(events) > 0 {
			one["firstEventTimestamp"], one["lastEventTimestamp"] = events[0].At, events[len(events)-1].At
			one["creationTime"] = events[0].At
		}
		list = append(list, one)
	}
	return map[string]any{"logStreams": list}, nil
}

// maxEvents of one answer (FilterLogEvents, GetLogEvents).
const maxEvents = 10000

func (s *Service) getLogEvents(r *awsapi.Request) (any, error) {
	var in struct {
		LogStreamName string
		NextToken     string
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	name := groupOf(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.groups[name]; !ok {
		return nil, noGroup()
	}
	events, err := s.events(name, in.LogStreamName)
	if err != nil {
		return nil, err
	}
	from, err := offset(in.NextToken, len(events))
	if err != nil {
		return nil, err
	}
	events = events[from:]
	events = events[:min(len(events), maxEvents)]
	list := []map[string]any{}
	for _, e := range events {
		list = append(list, map[string]any{"timestamp": e.At, "ingestionTime": e.At, "message": e.Message})
	}
	return map[string]any{"events": list, "nextForwardToken": "f/" + strconv.Itoa(from+len(events)), "nextBackwardToken": "f/0"}, nil
}

// offset reads our tokens: how many events were given already.
func offset(token string, n int) (int, error) {
	if token == "" {
		return 0, nil
	}
	i, err := strconv.Atoi(strings.TrimPrefix(token, "f/"))
	if err != nil || i < 0 {
		return 0, invalid("The specified nextToken is invalid.")
	}
	return min(i, n), nil
}

func (s *Service) filterLogEvents(r *awsapi.Request) (any, error) {
	var in struct {
		FilterPattern, NextToken, LogStreamNamePrefix string
		LogStreamNames                                []string
		StartTime, EndTime                            *int64
		Limit                                         int
	}
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	matches, err := filter(in.FilterPattern)
	if err != nil {
		return nil, err
	}
	events, err := s.Events(groupOf(r), milli(in.StartTime, 0), milli(in.EndTime, 1)) // the end is part of it
	if err != nil {
		return nil, err
	}
	events = slices.DeleteFunc(events, func(e Event) bool {
		return !matches(e.Message) || !strings.HasPrefix(e.Stream, in.LogStreamNamePrefix) ||
			len(in.LogStreamNames) > 0 && !slices.Contains(in.LogStreamNames, e.Stream)
	})
	from, err := offset(in.NextToken, len(events))
	if err != nil {
		return nil, err
	}
	limit := maxEvents
	if in.Limit > 0 {
		limit = min(in.Limit, limit)
	}
	list, out := []map[string]any{}, map[string]any{}
	for i, e := range events[from:] {
		if i == limit {
			out["nextToken"] = "f/" + strconv.Itoa(from+limit)
			break
		}
		list = append(list, map[string]any{
			"timestamp": e.At, "ingestionTime": e.At, "message": e.Message,
			"logStreamName": e.Stream, "eventId": strconv.Itoa(from + i),
		})
	}
	out["events"] = list
	return out, nil
}

func milli(ms *int64, plus int64) time.Time {
	if ms == nil {
		return time.Time{}
	}
	return time.UnixMilli(*ms + plus)
}

// filter reads the simple form of a filter pattern: terms and "quoted
// phrases" that must all be in the message, ?terms of which one must, and
// -terms that must not.
func filter(pattern string) (func(string) bool, error) {
	pattern = strings.TrimSpace(pattern)
	if strings.HasPrefix(pattern, "{") || strings.HasPrefix(pattern, "[") || strings.HasPrefix(pattern, "%") {
		return nil, invalid("The emulator has filter patterns of terms only, not %s", pattern)
	}
	var must, some, never []string
	for pattern != "" {
		to := &must
		switch pattern[0] {
		case '?':
			to, pattern = &some, pattern[1:]
		case '-':
			to, pattern = &never, pattern[1:]
		}
		var term string
		if strings.HasPrefix(pattern, `"`) {
			term, pattern, _ = strings.Cut(pattern[1:], `"`)
		} else {
			term, pattern, _ = strings.Cut(pattern, " ")
		}
		if term != "" {
			*to = append(*to, term)
		}
		pattern = strings.TrimSpace(pattern)
	}
	return func(message string) bool {
		has := func(term string) bool { return strings.Contains(message, term) }
		lacks := func(term string) bool { return !has(term) }
		return !slices.ContainsFunc(must, lacks) && !slices.ContainsFunc(never, has) && (len(some) == 0 || slices.ContainsFunc(some, has))
	}, nil
}

func (s *Service) tagResource(r *awsapi.Request) (any, error) {
	var in struct{ Tags map[string]string }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	return nil, s.change(nameOf(r.Field("resourceArn")), func(g *group) error {
		g.Tags = awsapi.Retag(g.Tags, in.Tags)
		return nil
	})
}

func (s *Service) untagResource(r *awsapi.Request) (any, error) {
	var in struct{ TagKeys []string }
	if err := r.JSON(&in); err != nil {
		return nil, err
	}
	return nil, s.change(nameOf(r.Field("resourceArn")), func(g *group) error {
		g.Tags = awsapi.Retag(g.Tags, nil, in.TagKeys...)
		return nil
	})
}

func (s *Service) listTags(r *awsapi.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.groups[nameOf(r.Field("resourceArn"))]
	if !ok {
		return nil, noGroup()
	}
	tags := map[string]string{}
	maps.Copy(tags, g.Tags)
	return map[string]any{"tags": tags}, nil
}
