"""The service: recommendations over HTTP, its page, and the AWS Lambda function.

`app` assembles a worker, `run` starts the workers, `routes` has the endpoints and `schemas` their formats;
`recommend` does the work. It only reads the lake, except that `feedback_writer` spools feedback for the next
refresh. This file imports nothing, so that the Lambda handler needs only numpy.
"""
