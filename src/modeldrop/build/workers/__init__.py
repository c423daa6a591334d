"""Programs that run in processes of their own, so that torch never meets credentials.

Each reads one JSON request, writes one JSON result, and tells its progress in lines of JSON.
"""
