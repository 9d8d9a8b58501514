%% What more than one part of the mixed chaos needs to know.

-define(PYTHON, mixed).
%% Longer than anything takes that is not lost.
-define(LOST_MS, 45000).
%% Supervised processes of which only so many may die in ten seconds.
-define(FEW, [py_stream_guard, py_mail_counter, py_reaper, py_pool_sup, pg]).
