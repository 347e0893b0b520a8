"""A test in world after world: when does the second arm help?"""
