package iam

import "github.com/jitr-agent/jitr-agent/internal/iotcore/awsapi"

// Version and name space of the STS API in the query protocol.
const (
	STSVersion   = "2011-06-15"
	STSNamespace = "https://sts.amazonaws.com/doc/2011-06-15/"
)

// STSOperations are those of STS. GetCallerIdentity needs no permission.
func (s *Service) STSOperations() map[string]awsapi.Operation {
	return map[string]awsapi.Operation{"GetCallerIdentity": {Handle: s.getCallerIdentity}}
}

func (s *Service) getCallerIdentity(r *awsapi.Request) (any, error) {
	key := r.Credential.AccessKey
	return struct{ Arn, UserId, Account string }{s.Caller(key), key, s.place.Account}, nil
}
