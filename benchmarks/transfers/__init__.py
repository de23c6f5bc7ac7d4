"""Uploads by the `putgate` command beside s5cmd, rclone and the AWS CLI, into one store in one run.

What counts are the ratios: the machine is whatever it is. Each figure is the median of rounds in which the tools take
turns, each round beginning with another one.
"""
